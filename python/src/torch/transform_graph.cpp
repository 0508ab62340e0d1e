// The operators of transform_operators.h at a level of grad, and in PyTorch's own graph around all levels.
#include <torch/csrc/autograd/saved_variable.h>

#include <algorithm>
#include <initializer_list>
#include <mutex>
#include <tuple>

#include "torch/nodes.h"
#include "torch/transform_operators.h"

namespace mseloss::python {
namespace {

using at::Tensor;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// The node of transformed_step_backward, which is linear in each operand.
class StepBackwardBackward final : public torch::autograd::Node {
 public:
  void save(const Tensor& grad_output, const Tensor& input, const Tensor& target, bool mean, int64_t kept) {
    grad_output_ = SavedVariable(grad_output, /*is_output=*/false);
    input_ = SavedVariable(input, /*is_output=*/false);
    target_ = SavedVariable(target, /*is_output=*/false);
    mean_ = mean;
    kept_ = kept;
  }

  variable_list apply(variable_list&& gradient_outputs) override {
    const std::lock_guard lock(mutex_);
    variable_list results(3);
    const Tensor& h = gradient_outputs[0];
    if (!h.defined()) return results;
    const Tensor g = grad_output_.unpack(), x = input_.unpack(), y = target_.unpack();
    if (task_should_compute_output(0)) {
      const Tensor products = mse_loss_backward(h, x, y, mean_, kept_);
      results[0] = products.sum_to_size(with_reduced_dimensions(g, x).sizes()).reshape(g.sizes());
    }
    if (task_should_compute_output(1) || task_should_compute_output(2)) {
      const Tensor factors = with_reduced_dimensions(g, x);
      const Tensor scaled = mse_loss_backward(h, factors.expand_as(x), at::zeros_like(x), mean_, kept_);
      if (task_should_compute_output(1)) results[1] = scaled;
      if (task_should_compute_output(2)) results[2] = -scaled;
    }
    return results;
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    grad_output_.reset_data();
    input_.reset_data();
    target_.reset_data();
  }

  std::string name() const override { return "MseLossStepBackwardBackward"; }

 private:
  SavedVariable grad_output_, input_, target_;
  bool mean_ = false;
  int64_t kept_ = 0;
};

// The node of transformed_step.
class StepNode final : public torch::autograd::Node {
 public:
  void save(const Tensor& input, const Tensor& target, const Tensor& token, bool mean, int64_t kept) {
    input_ = SavedVariable(input, /*is_output=*/false);
    target_ = SavedVariable(target, /*is_output=*/false);
    token_ = SavedVariable(token, /*is_output=*/false);
    mean_ = mean;
    kept_ = kept;
  }

  variable_list apply(variable_list&& grad_outputs) override {
    const std::lock_guard lock(mutex_);
    variable_list results(2);
    if (!grad_outputs[0].defined()) return results;
    const Tensor gradient = transformed_step_backward().call(grad_outputs[0], input_.unpack(),
                                                             target_.unpack(), token_.unpack(), mean_, kept_);
    if (task_should_compute_output(0)) results[0] = gradient;
    if (task_should_compute_output(1)) results[1] = -gradient;
    return results;
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    input_.reset_data();
    target_.reset_data();
    token_.reset_data();
  }

  std::string name() const override { return "MseLossStepBackward"; }

 private:
  SavedVariable input_, target_, token_;
  bool mean_ = false;
  int64_t kept_ = 0;
};

bool is_recorded(std::initializer_list<const Tensor*> operands) {
  return at::GradMode::is_enabled() &&
         std::any_of(operands.begin(), operands.end(),
                     [](const Tensor* operand) { return operand->requires_grad(); });
}

}  // namespace

std::tuple<Tensor, Tensor> step_with_graph(c10::DispatchKeySet keys, const Tensor& input,
                                           const Tensor& target, bool mean, int64_t kept,
                                           bool with_gradient) {
  std::tuple<Tensor, Tensor> results;
  {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    results = transformed_step().redispatch(keys & c10::after_autograd_keyset, input, target, mean, kept,
                                            with_gradient);
  }
  if (is_recorded({&input, &target})) {
    const auto node = make_node<StepNode>(input, target);
    node->save(input, target, std::get<1>(results), mean, kept);
    torch::autograd::set_history(std::get<0>(results), node);
  }
  return results;
}

Tensor step_backward_with_graph(c10::DispatchKeySet keys, const Tensor& grad_output, const Tensor& input,
                                const Tensor& target, const Tensor& token, bool mean, int64_t kept) {
  using torch::autograd::isFwGradDefined;
  if (isFwGradDefined(grad_output) || isFwGradDefined(input) || isFwGradDefined(target)) {
    return mse_loss_backward(grad_output, input, target, mean, kept);
  }
  Tensor gradient;
  {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    gradient = transformed_step_backward().redispatch(keys & c10::after_autograd_keyset, grad_output, input,
                                                      target, token, mean, kept);
  }
  if (is_recorded({&grad_output, &input, &target})) {
    const auto node = make_node<StepBackwardBackward>(grad_output, input, target);
    node->save(grad_output, input, target, mean, kept);
    torch::autograd::set_history(gradient, node);
  }
  return gradient;
}

}  // namespace mseloss::python
