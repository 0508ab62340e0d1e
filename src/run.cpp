// From a checked plan to finished results: which sweeps it takes, on which backend.
#include <algorithm>

#include "backend.h"
#include "plan/plan.h"

namespace mseloss {
namespace {

const Backend& backend_for(const Plan&, const Buffers&) { return cpu::kBackend; }  // the only one so far

// The elementwise loss of a fused plan as a plan of its own, in the compute dtype: where it is stored wider
// than the gradient it must not pass through the gradient's half type.
Plan loss_of(const Plan& fused) {
  Plan plan = fused;
  plan.op = Op::kLoss;
  plan.dtype = fused.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  plan.layout = Layout::kGeneral;
  plan.operands = 1 << kInput | 1 << kTarget | 1 << kOut;
  plan.dtypes[kOut] = fused.dtypes[kOut2];
  plan.offset[kOut] = fused.offset[kOut2];
  std::copy_n(fused.stride[kOut2], kMaxRank, plan.stride[kOut]);
  return plan;
}

// The gradient of a fused plan as a plan of its own.
Plan grad_of(const Plan& fused) {
  Plan plan = fused;
  plan.op = Op::kGrad;
  plan.operands &= ~(1 << kOut2);
  return plan;
}

// The plan's loss alone, as often as its rounding needs.
Status run_loss(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options) {
  void* out = buffers[plan.op == Op::kLoss ? kOut : kOut2];
  const Backend& backend = backend_for(plan, buffers);
  PartialSum sum;
  if (Status status = backend.run(plan, buffers, sweep, options, &sum); !status.ok()) return status;
  if (sum.finish(plan.reduction, plan.loss_dtype, out)) return {};
  PartialSum exact;
  if (Status status = backend.run(plan, buffers, Sweep::kExactSum, options, &exact); !status.ok())
    return status;
  exact.finish(plan.reduction, plan.loss_dtype, out);  // an exact sum always can
  return {};
}

}  // namespace

Status run(const Plan& plan, const Buffers& buffers, const Options& options) {
  const Backend& backend = backend_for(plan, buffers);
  if (plan.reduction == Reduction::kNone || plan.op == Op::kGrad) {
    const Sweep sweep = plan.op == Op::kGrad   ? Sweep::kGrad
                        : plan.op == Op::kLoss ? Sweep::kLoss
                                               : Sweep::kGradLoss;
    if (sweep == Sweep::kGradLoss && plan.dtypes[kOut2] != plan.dtype) {
      const Buffers loss{nullptr, buffers[kInput], buffers[kTarget], buffers[kOut2], nullptr};
      if (Status status = backend.run(loss_of(plan), loss, Sweep::kLoss, options, nullptr); !status.ok()) {
        return status;
      }
      return backend.run(grad_of(plan), buffers, Sweep::kGrad, options, nullptr);
    }
    return backend.run(plan, buffers, sweep, options, nullptr);
  }
  const Sweep sum = options.exact ? Sweep::kExactSum : Sweep::kFastSum;
  if (plan.op == Op::kLoss) return run_loss(plan, buffers, sum, options);
  // A second sweep must find the inputs as they were, so in place the loss comes first, apart.
  const bool in_place = buffers[kOut] == buffers[kInput] || buffers[kOut] == buffers[kTarget];
  if (!in_place && !options.exact) return run_loss(plan, buffers, Sweep::kGradSum, options);
  if (Status status = run_loss(plan, buffers, sum, options); !status.ok()) return status;
  return backend.run(plan, buffers, Sweep::kGrad, options, nullptr);
}

}  // namespace mseloss
