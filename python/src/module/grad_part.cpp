#include "module/grad_part.h"

#include "backend.h"
#include "numerics/scale.h"

namespace mseloss::python {
namespace {

Status check_and_run(const Plan& plan, const Buffers& buffers, const Options& options) {
  const Status status = check_buffers(plan, buffers);
  return status.ok() ? mseloss::run(plan, buffers, options) : status;
}

}  // namespace

Status grad_part(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                 int64_t count, const Tensor& out, const Options& options, bool holds_unit_gradient) {
  Plan plan;
  const Status status = make_grad_plan(grad_output, input, target, Reduction::kSum, out, &plan);
  if (!status.ok()) return status;
  plan.holds_unit_gradient = holds_unit_gradient;
  if (count > 0) {
    plan.reduction = Reduction::kMean;
    plan.scale = mean_scale(plan.dtype, count);
  }
  return check_and_run(plan, {grad_output.data, input.data, target.data, out.data, nullptr}, options);
}

Status weighted_grad_part(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                          const ConstTensor& weight, double scale, const Tensor& out, const Options& options,
                          bool holds_unit_gradient) {
  Plan plan;
  // For kSum the plan's scale is final; for kMean run() would sum the weights.
  const Status status = make_grad_plan(grad_output, input, target, Reduction::kSum, out, &plan, {}, &weight);
  if (!status.ok()) return status;
  plan.scale = scale;
  plan.holds_unit_gradient = holds_unit_gradient;
  return check_and_run(plan, {grad_output.data, input.data, target.data, out.data, nullptr, weight.data},
                       options);
}

}  // namespace mseloss::python
