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

void SweepRunner::operator()(const RowBlock& block) {
  constexpr size_t kL1Elements = 2048;  // stay in L1 between the two kernels that read them
  switch (sweep_) {
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
        SumAccess::add_fast(sum_, sum, part.n * part.rows);
      });
      return;
    case Sweep::kExactSum: {
      double special = 0;
      kernels_.exact_sum[dtype_](block, SumAccess::limbs(sum_), &special);
      if (special != 0) SumAccess::add_special(sum_, special);
      SumAccess::add_exact(sum_, block.n * block.rows);
      return;
    }
  }
}

}  // namespace mseloss::cpu
