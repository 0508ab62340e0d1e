// One worker's part of a sweep: the kernels it calls and the sum it collects.
#pragma once

#include "backend.h"
#include "cpu/kernels.h"

namespace mseloss::cpu {

// Rows as the walk finds them; `loss` is where the elementwise loss goes beside a gradient.
struct Run : Rows {
  void* loss = nullptr;
  ptrdiff_t loss_pitch = 0;
};

class Worker {
 public:
  // Sums are added to *sum, which other sweeps do not need.
  Worker(const Plan& plan, Sweep sweep, bool stream, PartialSum* sum)
      : kernels_(kernels()),
        dtype_(static_cast<int>(plan.dtype)),
        size_(size_of(plan.dtype)),
        sweep_(sweep),
        stream_(stream),
        sum_(sum) {}

  void operator()(const Run& run);

 private:
  // Calls f(block) for the run in blocks of at most `length` elements: whole rows, or parts of one.
  template <class F>
  void in_blocks(const Run& run, size_t length, F f);

  const Kernels& kernels_;
  int dtype_;
  int size_;
  Sweep sweep_;
  bool stream_;
  PartialSum* sum_;
};

}  // namespace mseloss::cpu
