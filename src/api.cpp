// The public C++ API: each function makes a plan, checks the buffers and runs it.
#include <algorithm>

#include "backend.h"
#include "cpu/explain.h"
#include "cuda/shape.h"
#include "mseloss/mseloss.h"
#include "plan/plan.h"

namespace mseloss {
namespace {

constexpr Names kLossNames{{"grad_output", "input", "target", "weight", "out", "out"}};

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
                       {grad_output.data, input.data, target.data, grad_input.data, nullptr}, kNames,
                       options);
}

Status loss(const ConstTensor& input, const ConstTensor& target, Reduction reduction, const Tensor& out,
            const Options& options) {
  Plan plan;
  const Status planned = make_loss_plan(input, target, reduction, out, &plan, kLossNames);
  // A sliced plan writes its loss to kLossOut, so `out` is passed in both places.
  return check_and_run(planned, plan, {nullptr, input.data, target.data, out.data, out.data}, kLossNames,
                       options);
}

Status loss_and_grad(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                     const ConstTensor& grad_output, const Tensor& loss, const Tensor& grad_input,
                     const Options& options) {
  Plan plan;
  return check_and_run(
      make_loss_and_grad_plan(input, target, reduction, grad_output, loss, grad_input, &plan), plan,
      {grad_output.data, input.data, target.data, grad_input.data, loss.data}, kNames, options);
}

Status grad(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
            const ConstTensor& weight, Reduction reduction, const Tensor& grad_input,
            const Options& options) {
  Plan plan;
  return check_and_run(
      make_grad_plan(grad_output, input, target, reduction, grad_input, &plan, kNames, &weight), plan,
      {grad_output.data, input.data, target.data, grad_input.data, nullptr, weight.data}, kNames, options);
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
  return check_and_run(make_loss_and_grad_plan(input, target, reduction, grad_output, loss, grad_input, &plan,
                                               kNames, &weight),
                       plan,
                       {grad_output.data, input.data, target.data, grad_input.data, loss.data, weight.data},
                       kNames, options);
}

namespace {

// A placeholder: the plan of a loss needs an output, but the sweeps of a partial sum do not write it.
struct NoOutput {
  double value = 0;
  Tensor tensor{&value, DType::kFloat64};
};

// Checks the addresses, runs a sweep and merges its sum.
Status add_sweep(PartialSum* sum, const Status& planned, const Plan& plan, const Buffers& buffers,
                 const Names& names, const SumRequest& request, const Options& options) {
  if (!planned.ok()) return planned;
  if (Status status = check_buffers(plan, buffers, names); !status.ok()) return status;
  PartialSum part;
  const Status status = run_sum(plan, buffers, request, options, SumAccess::target(&part));
  if (!status.ok()) return status;
  sum->merge(part);
  return {};
}

Status add_part(PartialSum* sum, const ConstTensor& input, const ConstTensor& target,
                const ConstTensor* weight, PartialSum::Mode mode, const Options& options) {
  NoOutput out;
  Plan plan;
  const Status planned = make_loss_plan(input, target, Reduction::kSum, out.tensor, &plan, kLossNames,
                                        LossRounding::kOnce, weight);
  const Buffers buffers{nullptr,    input.data, target.data,
                        &out.value, nullptr,    weight == nullptr ? nullptr : weight->data};
  return add_sweep(sum, planned, plan, buffers, kLossNames, {mode == PartialSum::Mode::kExact, false},
                   options);
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

Status PartialSum::add_divisor(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
                               Mode mode, const Options& options) {
  NoOutput out;
  Plan plan;
  if (Status status = make_loss_plan(input, target, Reduction::kSum, out.tensor, &plan, kLossNames,
                                     LossRounding::kOnce, weight);
      !status.ok()) {
    return status;
  }
  if (weight == nullptr) {
    state_.count += static_cast<uint64_t>(plan.numel);
    return {};
  }
  // Sums w * 0^2, so that only the sum of the weights remains.
  const double zero = 0;
  for (const int o : {kInput, kTarget}) {
    plan.dtypes[o] = plan.dtype;
    plan.offset[o] = 0;
    std::fill_n(plan.stride[o], kMaxRank, 0);
  }
  plan.layout = classify(plan);
  PartialSum weights;
  const Status status =
      add_sweep(&weights, {}, plan, {nullptr, &zero, &zero, &out.value, nullptr, weight->data}, kLossNames,
                {mode == Mode::kExact, true}, options);
  if (!status.ok()) return status;
  weights.state_.squares = {};  // w * 0 is NaN for an infinite or NaN weight
  merge(weights);
  return {};
}

Status PartialSum::add_with_grad(const ConstTensor& input, const ConstTensor& target,
                                 const ConstTensor* weight, double scale, const ConstTensor& grad_output,
                                 const Tensor& grad_input, const Options& options) {
  NoOutput loss;
  Plan plan;
  const Status planned = make_loss_and_grad_plan(input, target, Reduction::kSum, grad_output, loss.tensor,
                                                 grad_input, &plan, kNames, weight);
  plan.scale = scale;
  const Buffers buffers{grad_output.data, input.data,  target.data,
                        grad_input.data,  &loss.value, weight == nullptr ? nullptr : weight->data};
  return add_sweep(this, planned, plan, buffers, kNames, {}, options);
}

std::string explain(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                    Reduction reduction, const Tensor& grad_input, const Options& options) noexcept try {
  Plan plan;
  Status status = make_grad_plan(grad_output, input, target, reduction, grad_input, &plan);
  const Buffers buffers{grad_output.data, input.data, target.data, grad_input.data, nullptr};
  if (status.ok()) status = check_buffers(plan, buffers);
  if (!status.ok()) return status.message();
  if (options.device == Device::kCuda) return cuda::explain(plan, buffers);
  return cpu::explain(plan, options);
} catch (...) {
  return {};  // out of memory for the text
}

const char* version() { return MSELOSS_VERSION; }

}  // namespace mseloss
