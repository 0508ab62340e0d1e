// Runs the kernels of one sweep over row blocks, on one thread, and accumulates the sum.
#pragma once

#include "cpu/interruption.h"
#include "cpu/kernels/kernels.h"
#include "cpu/sweep.h"

namespace mseloss::cpu {

class SweepRunner {
 public:
  // Sums are added to `sum`; other sweeps ignore it.
  SweepRunner(const Plan& plan, Sweep sweep, bool non_temporal, const SumTarget& sum,
              Interruption* interruption)
      : kernels_(kernels()),
        dtype_(static_cast<int>(plan.dtype)),
        size_(size_of(plan.dtype)),
        sweep_(sweep),
        non_temporal_(non_temporal),
        weighted_(has(plan, kWeight)),
        sum_(sum),
        interruption_(*interruption) {}

  Sweep sweep() const { return sweep_; }

  // Whether the rest of the work shall be skipped.
  bool interrupted() { return interruption_.check(); }

  void operator()(const RowBlock& block) { run(sweep_, block); }
  // A sweep that is a part of this one.
  void run(Sweep sweep, const RowBlock& block);

 private:
  void grad(const RowBlock& block, bool non_temporal);
  void loss(const RowBlock& block);
  void fast_sum(const RowBlock& block);
  void exact_sum(const RowBlock& block);
  bool stores_non_temporal(const RowBlock& block) const;
  // Calls f(part) for parts of at most `length` elements: several rows, or a part of one.
  template <class F>
  void in_parts(const RowBlock& block, size_t length, F f);

  const Kernels& kernels_;
  int dtype_;
  int size_;
  Sweep sweep_;
  bool non_temporal_;
  bool weighted_;
  SumTarget sum_;
  Interruption& interruption_;
};

}  // namespace mseloss::cpu
