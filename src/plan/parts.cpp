#include "plan/parts.h"

#include <algorithm>

namespace mseloss {

Plan loss_plan(const Plan& fused) {
  Plan plan = fused;
  plan.op = Op::kLoss;
  plan.dtype = compute_dtype(fused);
  plan.layout = Layout::kGeneral;
  plan.operands = (fused.operands & (1 << kInput | 1 << kTarget | 1 << kWeight)) | 1 << kOut;
  plan.dtypes[kOut] = fused.dtypes[kLossOut];
  plan.offset[kOut] = fused.offset[kLossOut];
  std::copy_n(fused.stride[kLossOut], kMaxRank, plan.stride[kOut]);
  return plan;
}

Plan grad_plan(const Plan& fused) {
  Plan plan = fused;
  plan.op = Op::kGrad;
  plan.operands &= ~(1 << kLossOut);
  if (plan.sliced) {
    plan.sliced = false;
    plan.layout = classify(plan);
  }
  return plan;
}

Plan slice_plan(const Plan& plan) {
  Plan slice = plan;
  slice.sliced = false;
  slice.operands &= ~(1 << kLossOut);
  std::fill_n(slice.offset, kOperands, 0);
  slice.rank = 0;
  slice.numel = plan.numel / plan.slices;
  for (int d = 0; d < plan.rank; ++d) {
    if (!is_reduced(plan, d)) continue;
    slice.extent[slice.rank] = plan.extent[d];
    for (auto& strides : slice.stride) strides[slice.rank] = strides[d];
    ++slice.rank;
  }
  slice.layout = classify(slice);
  return slice;
}

}  // namespace mseloss
