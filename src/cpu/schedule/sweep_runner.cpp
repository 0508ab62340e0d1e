#include "cpu/schedule/sweep_runner.h"

#include <algorithm>

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
        const ptrdiff_t elements = row * block.pitch[o] + (block.strided[o] ? column : 0);
        if (block.at[o] != nullptr) part.at[o] = static_cast<char*>(block.at[o]) + elements * size_;
      }
      f(part);
    }
  }
}

namespace {

constexpr size_t kL1Elements = 2048;  // stay in L1 between the two kernels that read them

}  // namespace

// The gradient and the sums read each part while it is in the caches.
void SweepRunner::run_slices(const RowBlock& block) {
  kernels_.slice_sums[dtype_][weighted_](block);
  if (sweep_ == Sweep::kSliceSums) return;
  if (weighted_) {
    kernels_.weighted_grad[dtype_][non_temporal_](block);
  } else {
    (non_temporal_ ? kernels_.grad_non_temporal[dtype_]
                   : kernels_.grad[dtype_][width_of(block.n * size_)])(block);
  }
}

void SweepRunner::run(const RowBlock& block) {
  switch (sweep_) {
    case Sweep::kSliceSums:
    case Sweep::kGradAndSliceSums:
      run_slices(block);
      return;
    case Sweep::kCountMask:  // has a weight
      return;
    case Sweep::kGrad:
      (non_temporal_ ? kernels_.grad_non_temporal[dtype_]
                     : kernels_.grad[dtype_][width_of(block.n * size_)])(block);
      return;
    case Sweep::kLoss:
      kernels_.loss[dtype_][width_of(block.n * size_)](block);
      return;
    case Sweep::kGradAndLoss:
      in_parts(block, kL1Elements, [this](const RowBlock& part) {
        const int width = width_of(part.n * size_);
        kernels_.grad[dtype_][width](part);
        RowBlock loss = part;
        loss.at[kOut] = part.at[kLossOut];
        loss.pitch[kOut] = part.pitch[kLossOut];
        kernels_.loss[dtype_][width](loss);
      });
      return;
    case Sweep::kFastSum:
    case Sweep::kGradAndSum:
      in_parts(block, kSumBlock, [this](const RowBlock& part) {
        RowSum sum;
        if (sweep_ == Sweep::kFastSum) {
          kernels_.sum[dtype_](part, &sum);
        } else {
          kernels_.grad_and_sum[dtype_][non_temporal_](part, &sum);
        }
        SumAccess::add_fast(sum_.state, sum, part.n * part.rows);
      });
      return;
    case Sweep::kExactSum: {
      kernels_.exact_sum[dtype_](block, sum_.limbs, &sum_.state->squares.special);
      sum_.state->count += block.n * block.rows;
      return;
    }
  }
}

void SweepRunner::run_weighted(const RowBlock& block) {
  switch (sweep_) {
    case Sweep::kSliceSums:
    case Sweep::kGradAndSliceSums:
      run_slices(block);
      return;
    case Sweep::kGrad:
      kernels_.weighted_grad[dtype_][non_temporal_](block);
      return;
    case Sweep::kLoss:
      kernels_.weighted_loss[dtype_](block);
      return;
    case Sweep::kGradAndLoss:
      in_parts(block, kL1Elements, [this](const RowBlock& part) {
        kernels_.weighted_grad[dtype_][0](part);
        RowBlock loss = part;
        loss.at[kOut] = part.at[kLossOut];
        loss.pitch[kOut] = part.pitch[kLossOut];
        kernels_.weighted_loss[dtype_](loss);
      });
      return;
    case Sweep::kFastSum:
    case Sweep::kGradAndSum:
      in_parts(block, kSumBlock, [this](const RowBlock& part) {
        WeightedRowSum sum;
        if (sweep_ == Sweep::kFastSum) {
          kernels_.weighted_sum[dtype_][part.masked](part, &sum);
        } else {
          kernels_.weighted_grad_and_sum[dtype_][part.masked][non_temporal_](part, &sum);
        }
        SumAccess::add_fast(sum_.state, sum, part.n * part.rows, part.masked);
      });
      return;
    case Sweep::kCountMask: {
      const uint64_t count = kernels_.count_true(block.at[kWeight], block.n);
      sum_.state->count += count;
      sum_.state->fast_terms += count;
      return;
    }
    case Sweep::kExactSum: {
      ExactSums sums{sum_.limbs, block.masked, 0, 0, 0};
      kernels_.weighted_exact_sum[dtype_](block, &sums);
      sum_.state->squares.special += sums.special;
      sum_.state->weights.special += sums.weight_special;
      (block.masked ? sum_.state->count : sum_.state->weighted) +=
          block.masked ? sums.selected : block.n * block.rows;
      return;
    }
  }
}

}  // namespace mseloss::cpu
