#include "cpu/worker.h"

#include <algorithm>

namespace mseloss::cpu {

template <class F>
void Worker::in_blocks(const Run& run, size_t length, F f) {
  const auto advance = [this](auto* pointer, size_t elements) {
    using Byte =
        std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(pointer)>>, const char, char>;
    return pointer == nullptr ? pointer : static_cast<Byte*>(pointer) + elements * size_;
  };
  Run block = run;
  for (size_t first = 0; first < run.n; first += length) {
    for (int i = 0; i < 3; ++i) {
      if (run.moves[i]) block.in[i] = advance(run.in[i], first);
    }
    block.out = advance(run.out, first);
    block.loss = advance(run.loss, first);
    block.n = std::min(length, run.n - first);
    f(block);
  }
}

void Worker::operator()(const Run& run) {
  constexpr size_t kCacheBlock = 2048;  // elements that stay in L1 between the two kernels that read them
  switch (sweep_) {
    case Sweep::kGrad:
      kernels_.grad[dtype_][stream_](run);
      return;
    case Sweep::kLoss:
      kernels_.loss[dtype_](run);
      return;
    case Sweep::kGradLoss:
      in_blocks(run, kCacheBlock, [this](const Run& block) {
        kernels_.grad[dtype_][0](block);
        Row loss = block;
        loss.out = block.loss;
        kernels_.loss[dtype_](loss);
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
        SumAccess::add_fast(sum_, sum, block.n);
      });
      return;
    case Sweep::kExactSum: {
      double special = 0;
      kernels_.exact_sum[dtype_](run, SumAccess::limbs(sum_), &special);
      if (special != 0) SumAccess::add_special(sum_, special);
      SumAccess::add_exact(sum_, run.n);
      return;
    }
  }
}

}  // namespace mseloss::cpu
