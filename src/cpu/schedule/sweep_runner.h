// Runs the kernels of one sweep over row blocks, on one thread, and accumulates the sum.
#pragma once

#include "cpu/kernels/kernels.h"
#include "cpu/schedule/interrupt_poll.h"

namespace mseloss::cpu {

// The results of one sweep, with the plan's weights if it has any.
enum class Sweep : uint8_t {
  kGrad,
  kLoss,         // elementwise
  kGradAndLoss,  // the gradient and the elementwise loss
  kFastSum,
  kExactSum,
  kGradAndSum,  // the gradient and the fast sum
  kCountMask,  // of a dense mask, which is the only operand and the plan's dtype: the number of true elements
  kSliceSums,  // of a sliced plan: the fast sums of all slices, rounded
  kGradAndSliceSums,
  // Sums and gradient of a sliced mean with weights, whose scale 2 / sum(w) is known only after the sums. The
  // sums of a few slices come first, then their gradient while the operands are in the caches; if several
  // threads share a slice, first all sums, then all gradients.
  kSliceSumsThenGrad,
  kSliceGrad,  // the second part of that
};

class SweepRunner {
 public:
  // Sums are added to `sum`; other sweeps ignore it.
  SweepRunner(const Plan& plan, Sweep sweep, bool non_temporal, const SumTarget& sum, InterruptPoll* poll)
      : kernels_(kernels()),
        dtype_(static_cast<int>(plan.dtype)),
        size_(size_of(plan.dtype)),
        sweep_(sweep),
        non_temporal_(non_temporal),
        weighted_(has(plan, kWeight)),
        masked_(weighted_ && kernel_dtype(plan, kWeight) == DType::kBool),
        sum_(sum),
        interrupt_poll_(*poll) {}

  Sweep sweep() const { return sweep_; }

  // Whether to skip the remaining work.
  bool interrupted() { return interrupt_poll_.check(); }

  void operator()(const RowBlock& block) { run(sweep_, block); }
  // A sweep that is a part of this one.
  void run(Sweep sweep, const RowBlock& block);
  void exact_sum(const RowBlock& block, const SumTarget& sum);

 private:
  void grad(const RowBlock& block, bool non_temporal);
  void loss(const RowBlock& block);
  void fast_sum(const RowBlock& block);
  void slice_grad(const RowBlock& block);
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
  bool masked_;  // the weights are the bytes of a mask
  SumTarget sum_;
  InterruptPoll& interrupt_poll_;
};

}  // namespace mseloss::cpu
