// The public C++ API: each function makes a plan, checks the buffers and runs it.
#include "cpu/explain.h"
#include "cpu/sweep.h"
#include "mseloss/mseloss.h"
#include "plan/plan.h"

namespace mseloss {
namespace {

constexpr Names kLossNames{.out = "out", .loss = "out"};

Status check_and_run(const Status& planned, const Plan& plan, const Buffers& buffers, const Names& names,
                     const Options& options) {
  if (!planned.ok()) return planned;
  if (Status status = check_buffers(plan, buffers, names); !status.ok()) return status;
  return run(plan, buffers, options);
}

}  // namespace

Status grad(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
            Reduction reduction, const Tensor& grad_input, const Options& options) {
  Plan plan;
  return check_and_run(make_grad_plan(grad_output, input, target, reduction, grad_input, &plan), plan,
                       {grad_output.data, input.data, target.data, grad_input.data, nullptr}, {}, options);
}

Status loss(const ConstTensor& input, const ConstTensor& target, Reduction reduction, const Tensor& out,
            const Options& options) {
  Plan plan;
  const Status planned = make_loss_plan(input, target, reduction, out, &plan, kLossNames);
  // The plan has the loss of slices as kLossOut.
  return check_and_run(planned, plan, {nullptr, input.data, target.data, out.data, out.data}, kLossNames,
                       options);
}

Status loss_and_grad(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                     const ConstTensor& grad_output, const Tensor& loss, const Tensor& grad_input,
                     const Options& options) {
  Plan plan;
  return check_and_run(
      make_loss_and_grad_plan(input, target, reduction, grad_output, loss, grad_input, &plan), plan,
      {grad_output.data, input.data, target.data, grad_input.data, loss.data}, {}, options);
}

Status grad(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
            const ConstTensor& weight, Reduction reduction, const Tensor& grad_input,
            const Options& options) {
  Plan plan;
  return check_and_run(
      make_grad_plan(grad_output, input, target, reduction, grad_input, &plan, {}, &weight), plan,
      {grad_output.data, input.data, target.data, grad_input.data, nullptr, weight.data}, {}, options);
}

Status loss(const ConstTensor& input, const ConstTensor& target, const ConstTensor& weight,
            Reduction reduction, const Tensor& out, const Options& options) {
  Plan plan;
  const Status planned =
      make_loss_plan(input, target, reduction, out, &plan, kLossNames, LossRounding::kOnce, &weight);
  return check_and_run(planned, plan, {nullptr, input.data, target.data, out.data, out.data, weight.data},
                       kLossNames, options);
}

Status loss_and_grad(const ConstTensor& input, const ConstTensor& target, const ConstTensor& weight,
                     Reduction reduction, const ConstTensor& grad_output, const Tensor& loss,
                     const Tensor& grad_input, const Options& options) {
  Plan plan;
  return check_and_run(
      make_loss_and_grad_plan(input, target, reduction, grad_output, loss, grad_input, &plan, {}, &weight),
      plan, {grad_output.data, input.data, target.data, grad_input.data, loss.data, weight.data}, {},
      options);
}

namespace {

Status add_part(PartialSum* sum, const ConstTensor& input, const ConstTensor& target,
                const ConstTensor* weight, PartialSum::Mode mode, const Options& options) {
  double unused = 0;  // make_loss_plan() and check_buffers() need an output; a sweep does not write it
  const Tensor out(&unused, DType::kFloat64);
  Plan plan;
  if (Status status =
          make_loss_plan(input, target, Reduction::kSum, out, &plan, kLossNames, LossRounding::kOnce, weight);
      !status.ok()) {
    return status;
  }
  const Buffers buffers{nullptr, input.data, target.data,
                        &unused, nullptr,    weight == nullptr ? nullptr : weight->data};
  if (Status status = check_buffers(plan, buffers, kLossNames); !status.ok()) return status;
  PartialSum part;
  const auto sweep = mode == PartialSum::Mode::kExact ? cpu::Sweep::kExactSum : cpu::Sweep::kFastSum;
  if (Status status = cpu::run_sweep(plan, buffers, sweep, options, SumAccess::target(&part)); !status.ok()) {
    return status;
  }
  sum->merge(part);
  return {};
}

}  // namespace

Status PartialSum::add(const ConstTensor& input, const ConstTensor& target, Mode mode,
                       const Options& options) {
  return add_part(this, input, target, nullptr, mode, options);
}

Status PartialSum::add(const ConstTensor& input, const ConstTensor& target, const ConstTensor& weight,
                       Mode mode, const Options& options) {
  return add_part(this, input, target, &weight, mode, options);
}

std::string explain(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                    Reduction reduction, const Tensor& grad_input, const Options& options) noexcept try {
  Plan plan;
  Status status = make_grad_plan(grad_output, input, target, reduction, grad_input, &plan);
  const Buffers buffers{grad_output.data, input.data, target.data, grad_input.data, nullptr};
  if (status.ok()) status = check_buffers(plan, buffers);
  if (!status.ok()) return status.message();
  return cpu::explain(plan, options);
} catch (...) {
  return {};  // out of memory for the text
}

const char* version() { return MSELOSS_VERSION; }

}  // namespace mseloss
