#include "cpu/worker.h"

#include <algorithm>

namespace mseloss::cpu {

template <class F>
void Worker::in_blocks(const Run& run, size_t length, F f) {
  const auto at = [this](const void* first, ptrdiff_t elements) {
    return first == nullptr ? nullptr : static_cast<const char*>(first) + elements * size_;
  };
  const size_t columns = std::min(run.n, length), rows = length / columns;
  Run block = run;
  for (size_t r = 0; r < run.rows; r += rows) {
    block.rows = std::min(rows, run.rows - r);
    for (size_t c = 0; c < run.n; c += columns) {
      block.n = std::min(columns, run.n - c);
      const auto row = static_cast<ptrdiff_t>(r), column = static_cast<ptrdiff_t>(c);
      for (int i = 0; i < 3; ++i) {
        block.in[i] = at(run.in[i], row * run.in_pitch[i] + (run.moves[i] ? column : 0));
      }
      block.out = const_cast<char*>(at(run.out, row * run.out_pitch + column));
      block.loss = const_cast<char*>(at(run.loss, row * run.loss_pitch + column));
      f(block);
    }
  }
}

void Worker::operator()(const Run& run) {
  constexpr size_t kCacheBlock = 2048;  // elements that stay in L1 between the two kernels that read them
  switch (sweep_) {
    case Sweep::kGrad:
      (stream_ ? kernels_.grad_streaming[dtype_] : kernels_.grad[dtype_][width_of(run.n * size_)])(run);
      return;
    case Sweep::kLoss:
      kernels_.loss[dtype_][width_of(run.n * size_)](run);
      return;
    case Sweep::kGradLoss:
      in_blocks(run, kCacheBlock, [this](const Run& block) {
        const int width = width_of(block.n * size_);
        kernels_.grad[dtype_][width](block);
        Rows loss = block;
        loss.out = block.loss;
        loss.out_pitch = block.loss_pitch;
        kernels_.loss[dtype_][width](loss);
      });
      return;
    case Sweep::kFastSum:
    case Sweep::kGradSum:
      in_blocks(run, kSumBlock, [this](const Run& block) {
        RowSum sum;
        if (sweep_ == Sweep::kFastSum) {
          kernels_.sum[dtype_](block, &sum);
        } else {
          kernels_.grad_sum[dtype_][stream_](block, &sum);
        }
        SumAccess::add_fast(sum_, sum, block.n * block.rows);
      });
      return;
    case Sweep::kExactSum: {
      double special = 0;
      kernels_.exact_sum[dtype_](run, SumAccess::limbs(sum_), &special);
      if (special != 0) SumAccess::add_special(sum_, special);
      SumAccess::add_exact(sum_, run.n * run.rows);
      return;
    }
  }
}

}  // namespace mseloss::cpu
