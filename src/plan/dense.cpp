// The plan of a call that needs no checks.
#include <algorithm>

#include "plan/plan.h"

namespace mseloss {

Plan make_dense_plan(Op op, Reduction reduction, DType dtype, int64_t numel, bool broadcast_grad_output,
                     double scale) {
  Plan plan;
  plan.op = op;
  plan.reduction = reduction;
  plan.layout = Layout::kDense;
  plan.dtype = plan.loss_dtype = dtype;
  std::fill_n(plan.dtypes, kOperands, dtype);
  const bool sums = has_sum(plan);
  plan.operands = 1 << kInput | 1 << kTarget;
  if (op != Op::kLoss || !sums) plan.operands |= 1 << kOut;
  if (op != Op::kLoss) plan.operands |= 1 << kGradOutput;
  if (op == Op::kLossAndGrad && !sums) plan.operands |= 1 << kLossOut;
  plan.sliced = plan.holds_unit_gradient = false;
  plan.rank = numel == 1 ? 0 : 1;
  plan.extent[0] = plan.numel = numel;
  for (auto& stride : plan.stride) stride[0] = plan.rank;
  if (broadcast_grad_output) plan.stride[kGradOutput][0] = 0;
  std::fill_n(plan.offset, kOperands, 0);
  plan.scale = scale;
  return plan;
}

}  // namespace mseloss
