#include "cpu/schedule/sweep_runner.h"

#include <algorithm>
#include <utility>

#include "cpu/schedule/tiling.h"

namespace mseloss::cpu {

template <class F>
void SweepRunner::in_parts(const RowBlock& block, size_t length, F f) {
  const size_t columns = std::min(block.n, length), rows = length / columns;
  RowBlock part = block;
  for (size_t r = 0; r < block.rows; r += rows) {
    part.rows = std::min(rows, block.rows - r);
    for (size_t c = 0; c < block.n; c += columns) {
      part.n = std::min(columns, block.n - c);
      const auto row = static_cast<ptrdiff_t>(r), column = static_cast<ptrdiff_t>(c);
      for (int o = 0; o < kOperands; ++o) {
        if (block.at[o] == nullptr) continue;  // its other members are not set
        const ptrdiff_t elements = row * block.pitch[o] + (block.strided[o] ? column : 0);
        part.at[o] = static_cast<char*>(block.at[o]) + elements * (o == kWeight && masked_ ? 1 : size_);
      }
      f(part);
    }
  }
}

void SweepRunner::grad(const RowBlock& block, bool non_temporal) {
  if (weighted_) {
    kernels_.weighted_grad[dtype_][masked_][non_temporal](block);
  } else if (non_temporal) {
    kernels_.grad_non_temporal[dtype_](block);
  } else {
    kernels_.grad[dtype_][width_of(block.n * size_)](block);
  }
}

void SweepRunner::loss(const RowBlock& block) {
  if (weighted_) {
    kernels_.weighted_loss[dtype_][masked_](block);
  } else {
    kernels_.loss[dtype_][width_of(block.n * size_)](block);
  }
}

// The fast sum of at most kSumBlock elements, with the gradient if the sweep has one.
void SweepRunner::fast_sum(const RowBlock& block) {
  const bool with_grad = sweep_ == Sweep::kGradAndSum;
  const size_t terms = block.n * block.rows;
  if (weighted_) {
    WeightedRowSum sum;
    (with_grad ? kernels_.weighted_grad_and_sum[dtype_][masked_][non_temporal_]
               : kernels_.weighted_sum[dtype_][masked_])(block, &sum);
    SumAccess::add_fast(sum_.state, sum, terms, masked_);
  } else {
    RowSum sum;
    (with_grad ? kernels_.grad_and_sum[dtype_][non_temporal_] : kernels_.sum[dtype_])(block, &sum);
    SumAccess::add_fast(sum_.state, sum, terms);
  }
}

void SweepRunner::exact_sum(const RowBlock& block, const SumTarget& sum) {
  SumState& state = *sum.state;
  const size_t terms = block.n * block.rows;
  if (!weighted_) {
    kernels_.exact_sum[dtype_](block, sum.limbs, &state.squares.special);
    state.count += terms;
    return;
  }
  ExactSums sums{sum.limbs, masked_ || block.masked, 0, 0, 0};
  kernels_.weighted_exact_sum[dtype_][masked_](block, &sums);
  state.squares.special += sums.special;
  state.weights.special += sums.weight_special;
  if (sums.masked) {
    state.count += sums.selected;
  } else {
    state.weighted += terms;
  }
}

namespace {

// The rows of the gradient as one row, if they follow each other in every operand.
RowBlock joined_rows(const RowBlock& block) {
  for (const int o : {kGradOutput, kInput, kTarget, kWeight, kOut}) {
    const ptrdiff_t row = block.strided[o] ? static_cast<ptrdiff_t>(block.n) : 0;
    if (block.at[o] != nullptr && block.pitch[o] != row) return block;
  }
  RowBlock joined = block;
  joined.n *= std::exchange(joined.rows, 1);
  return joined;
}

}  // namespace

// Of the gradient of slices, whose rows may be short.
bool SweepRunner::stores_non_temporal(const RowBlock& block) const {
  return non_temporal_ && static_cast<int64_t>(block.n) * size_ >= kNonTemporalRowBytes;
}

namespace {

// Writes the scales of rows first..first+count-1 of the gradient, one for each element.
template <class T>
void repeat_scales(const RowBlock& block, size_t first, size_t count, T* to) {
  const auto* from = static_cast<const T*>(block.at[kLossOut]);
  for (size_t r = first; r < first + count; ++r, to += block.n) {
    const T* row = from + static_cast<ptrdiff_t>(r) * block.pitch[kLossOut];
    block.strided[kLossOut] ? std::copy_n(row, block.n, to) : std::fill_n(to, block.n, *row);
  }
}

}  // namespace

// Short rows that follow each other become long ones, with a scale for each element.
void SweepRunner::slice_grad(const RowBlock& block) {
  constexpr size_t kScaleBytes = 8192, kSlack = 64, kShortRow = 32, kShortColumns = 256;  // elements
  const auto grad = [&](const RowBlock& rows) {
    kernels_.slice_grad[dtype_][stores_non_temporal(rows)](rows);
  };
  const RowBlock joined = joined_rows(block);
  const bool columns = block.strided[kLossOut];
  if (block.n >= (columns ? kShortColumns : kShortRow) || block.rows == 1 || joined.rows != 1) {
    return grad(block);
  }
  alignas(64) char scales[kScaleBytes + kSlack];
  const size_t size = dtype_ == static_cast<int>(DType::kFloat64) ? sizeof(double) : sizeof(float);
  const size_t rows = kScaleBytes / size / block.n;
  RowBlock part = joined;
  part.at[kLossOut] = scales;
  part.strided[kLossOut] = true;
  for (size_t r = 0; r < block.rows; r += rows) {
    const size_t count = std::min(rows, block.rows - r);
    if (r == 0 || !columns || block.pitch[kLossOut] != 0) {
      if (size == sizeof(double)) {
        repeat_scales(block, r, count, reinterpret_cast<double*>(scales));
      } else {
        repeat_scales(block, r, count, reinterpret_cast<float*>(scales));
      }
    }
    part.n = count * block.n;
    grad(part);
    for (const int o : {kGradOutput, kInput, kTarget, kWeight, kOut}) {
      if (block.strided[o]) part.at[o] = static_cast<char*>(part.at[o]) + part.n * static_cast<size_t>(size_);
    }
  }
}

void SweepRunner::run(Sweep sweep, const RowBlock& block) {
  constexpr size_t kL1Elements = 2048;  // stay in L1 between the two kernels that read them
  switch (sweep) {
    case Sweep::kGrad:
      return grad(block, non_temporal_);
    case Sweep::kLoss:
      return loss(block);
    case Sweep::kGradAndLoss:
      return in_parts(block, kL1Elements, [this](const RowBlock& part) {
        grad(part, false);
        RowBlock loss_part = part;
        loss_part.at[kOut] = part.at[kLossOut];
        loss_part.pitch[kOut] = part.pitch[kLossOut];
        loss(loss_part);
      });
    case Sweep::kFastSum:
    case Sweep::kGradAndSum:
      return in_parts(block, kSumBlock, [this](const RowBlock& part) { fast_sum(part); });
    case Sweep::kExactSum:
      return exact_sum(block, sum_);
    case Sweep::kCountMask: {
      const uint64_t count = kernels_.count_true(block.at[kWeight], block.n);
      sum_.state->count += count;
      sum_.state->fast_terms += count;
      return;
    }
    case Sweep::kSliceSums:
      kernels_.slice_sums[dtype_][weighted_](block);
      return;
    case Sweep::kGradAndSliceSums: {
      const RowBlock rows = joined_rows(block);
      const bool non_temporal = stores_non_temporal(rows);
      if (!weighted_ && kernels_.grad_and_slice_sums[dtype_][non_temporal](block)) return;
      // Both read the block while it is in the caches.
      kernels_.slice_sums[dtype_][weighted_](block);
      return grad(rows, non_temporal);
    }
    case Sweep::kSliceGrad:
      return slice_grad(block);
    case Sweep::kSliceSumsThenGrad:  // consists of two of these
      return;
  }
}

}  // namespace mseloss::cpu
