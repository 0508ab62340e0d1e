// One sweep of the CPU backend over the elements of a plan.
#pragma once

#include "numerics/sum_access.h"
#include "plan/plan.h"

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
  // The same for a mean with weights, whose gradient has one scale for each slice: first the sums of a few
  // slices, then their gradient while the operands are in the caches.
  kSliceSumsThenGrad,
  kSliceGrad,  // the second part of that
};

// Runs the sweep to completion; sums are added to `sum`, which other sweeps ignore. The sums of slices are
// written to kLossOut and added to nothing; where a fast sum cannot decide the rounding, the element becomes
// store_pending(), and sum.state->count is the number of these elements. On an error nothing is written.
Status run_sweep(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
                 const SumTarget& sum);

}  // namespace mseloss::cpu
