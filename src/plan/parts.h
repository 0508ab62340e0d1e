// Plans derived from a checked plan: what a backend runs when one sweep does not give every result.
#pragma once

#include "plan/plan.h"

namespace mseloss {

// The compute dtype of the plan's kernels.
inline DType compute_dtype(const Plan& plan) {
  return plan.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

// Whether the gradient overwrites an operand that a sum reads.
inline bool is_in_place(const Buffers& buffers) {
  const void* out = buffers[kOut];
  return out == buffers[kInput] || out == buffers[kTarget] || out == buffers[kWeight];
}

// Whether the scale is 2 / sum(w), which the backend computes first.
inline bool needs_scale(const Plan& plan) {
  return has(plan, kWeight) && plan.reduction == Reduction::kMean && plan.op != Op::kLoss && plan.numel != 0;
}

// Whether the elementwise loss and the gradient of one plan need two sweeps: if their dtypes differ, the loss
// must not be rounded to the gradient's dtype first.
inline bool needs_two_sweeps(const Plan& plan) {
  return plan.op == Op::kLossAndGrad && !has_sum(plan) && plan.dtypes[kLossOut] != plan.dtype;
}

// The elementwise loss of a loss_and_grad plan as a separate plan in the compute dtype, with the buffers of
// loss_buffers().
Plan loss_plan(const Plan& fused);
inline Buffers loss_buffers(const Buffers& fused) {
  return {nullptr, fused[kInput], fused[kTarget], fused[kLossOut], nullptr, fused[kWeight]};
}

// The gradient of a fused plan as a separate plan, also of one with slices.
Plan grad_plan(const Plan& fused);

// The plan of one slice: the reduced dimensions, with a 0-dimensional loss.
Plan slice_plan(const Plan& plan);

}  // namespace mseloss
