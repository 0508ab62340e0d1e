// Runs a checked plan: selects the backend and the sweeps.
#include <algorithm>

#include "backend.h"
#include "plan/plan.h"

namespace mseloss {
namespace {

// The elementwise loss of a loss_and_grad plan as a separate plan in the compute dtype: if loss and gradient
// have different dtypes, the loss must not be rounded to the gradient's dtype first.
Plan loss_plan(const Plan& fused) {
  Plan plan = fused;
  plan.op = Op::kLoss;
  plan.dtype = fused.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  plan.layout = Layout::kGeneral;
  plan.operands = 1 << kInput | 1 << kTarget | 1 << kOut;
  plan.dtypes[kOut] = fused.dtypes[kLossOut];
  plan.offset[kOut] = fused.offset[kLossOut];
  std::copy_n(fused.stride[kLossOut], kMaxRank, plan.stride[kOut]);
  return plan;
}

// The gradient of a fused plan as a separate plan.
Plan grad_plan(const Plan& fused) {
  Plan plan = fused;
  plan.op = Op::kGrad;
  plan.operands &= ~(1 << kLossOut);
  return plan;
}

// Runs a sweep that sums the loss; repeats it as an exact sum if the fast one leaves the rounding undecided.
Status run_loss(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options) {
  void* out = buffers[loss_operand(plan)];
  const Backend& backend = backend_for(plan, buffers);
  PartialSum sum;
  if (Status status = backend.run(plan, buffers, sweep, options, &sum); !status.ok()) return status;
  if (sum.finish(plan.reduction, plan.loss_dtype, out)) return {};
  PartialSum exact;
  if (Status status = backend.run(plan, buffers, Sweep::kExactSum, options, &exact); !status.ok())
    return status;
  exact.finish(plan.reduction, plan.loss_dtype, out);  // always succeeds for an exact sum
  return {};
}

}  // namespace

Status run(const Plan& plan, const Buffers& buffers, const Options& options) {
  const Backend& backend = backend_for(plan, buffers);
  if (!has_sum(plan)) {
    const Sweep sweep = plan.op == Op::kGrad   ? Sweep::kGrad
                        : plan.op == Op::kLoss ? Sweep::kLoss
                                               : Sweep::kGradAndLoss;
    if (sweep == Sweep::kGradAndLoss && plan.dtypes[kLossOut] != plan.dtype) {
      const Buffers loss{nullptr, buffers[kInput], buffers[kTarget], buffers[kLossOut], nullptr};
      if (Status status = backend.run(loss_plan(plan), loss, Sweep::kLoss, options, nullptr); !status.ok()) {
        return status;
      }
      return backend.run(grad_plan(plan), buffers, Sweep::kGrad, options, nullptr);
    }
    return backend.run(plan, buffers, sweep, options, nullptr);
  }
  const Sweep sum = options.exact ? Sweep::kExactSum : Sweep::kFastSum;
  if (plan.op == Op::kLoss) return run_loss(plan, buffers, sum, options);
  // An exact sweep needs unmodified inputs, so the loss is computed before a gradient that overwrites one.
  const bool in_place = buffers[kOut] == buffers[kInput] || buffers[kOut] == buffers[kTarget];
  if (!in_place && !options.exact) return run_loss(plan, buffers, Sweep::kGradAndSum, options);
  if (Status status = run_loss(plan, buffers, sum, options); !status.ok()) return status;
  return backend.run(plan, buffers, Sweep::kGrad, options, nullptr);
}

}  // namespace mseloss
