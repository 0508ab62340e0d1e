#include "module/into_out.h"

#include "backend.h"

namespace mseloss::python {
namespace {

constexpr Names kNames{{"grad_output", "input", "target", "weight", "out", "loss"}};

Status check_and_run(Status status, const Plan& plan, const Buffers& buffers, const Options& options) {
  if (status.ok()) status = check_buffers(plan, buffers, kNames);
  return status.ok() ? mseloss::run(plan, buffers, options) : status;
}

}  // namespace

Status grad_into_out(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                     Reduction reduction, const Tensor& out, const Options& options) {
  Plan plan;
  const Status planned = make_grad_plan(grad_output, input, target, reduction, out, &plan, kNames);
  return check_and_run(planned, plan, {grad_output.data, input.data, target.data, out.data, nullptr},
                       options);
}

Status loss_and_grad_into_out(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
                              Reduction reduction, const ConstTensor& grad_output, const Tensor& loss,
                              const Tensor& out, const Options& options) {
  Plan plan;
  const Status planned =
      make_loss_and_grad_plan(input, target, reduction, grad_output, loss, out, &plan, kNames, weight);
  return check_and_run(planned, plan,
                       {grad_output.data, input.data, target.data, out.data, loss.data,
                        weight == nullptr ? nullptr : weight->data},
                       options);
}

}  // namespace mseloss::python
