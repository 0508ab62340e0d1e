// From a checked plan to finished results: which sweeps it takes, on which backend.
#include "backend.h"
#include "plan/plan.h"

namespace mseloss {
namespace {

const Backend& backend_for(const Plan&, const Buffers&) { return cpu::kBackend; }  // the only one so far

// The plan's loss alone, as often as its rounding needs.
Status run_loss(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options) {
  void* out = plan.op == Op::kLoss ? buffers.out : buffers.loss;
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
    return backend.run(plan, buffers, sweep, options, nullptr);
  }
  const Sweep sum = options.exact ? Sweep::kExactSum : Sweep::kFastSum;
  if (plan.op == Op::kLoss) return run_loss(plan, buffers, sum, options);
  // A second sweep must find the inputs as they were, so in place the loss comes first, apart.
  const bool in_place = buffers.out == buffers.input || buffers.out == buffers.target;
  if (!in_place && !options.exact) return run_loss(plan, buffers, Sweep::kGradSum, options);
  if (Status status = run_loss(plan, buffers, sum, options); !status.ok()) return status;
  return backend.run(plan, buffers, Sweep::kGrad, options, nullptr);
}

}  // namespace mseloss
