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

// A mask's gradients are +0 where it is false.
Tensor negated(const Tensor& gradient, const Weight& weight) {
  return weight && weight->scalar_type() == at::kBool ? at::rsub(gradient, 0) : -gradient;
}

// A node that saves the operands of a loss and one more tensor.
class LossNode : public torch::autograd::Node {
 public:
  void save(const Tensor& input, const Tensor& target, const Weight& weight, const Tensor& other, bool mean,
            int64_t summed) {
    input_ = {input, /*is_output=*/false};
    target_ = {target, /*is_output=*/false};
    weight_ = {weight, /*is_output=*/false};
    other_ = {other, /*is_output=*/false};
    mean_ = mean;
    summed_ = summed;
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (SavedVariable* variable : {&input_, &target_, &weight_, &other_}) variable->reset_data();
  }

 protected:
  Weight weight() const {
    Tensor tensor = weight_.unpack();
    return tensor.defined() ? Weight(std::move(tensor)) : std::nullopt;
  }

  SavedVariable input_, target_, weight_, other_;
  bool mean_ = false;
  int64_t summed_ = 0;
};

// The node of transformed_step_backward, which is linear in each operand but the weight. The other tensor is
// grad_output.
class MseLossStepBackwardBackward final : public LossNode {
 public:
  variable_list apply(variable_list&& gradient_outputs) override {
    const std::lock_guard lock(mutex_);
    variable_list results(3);
    const Tensor& h = gradient_outputs[0];
    if (!h.defined()) return results;
    const Tensor g = other_.unpack(), x = input_.unpack(), y = target_.unpack();
    const Weight w = weight();
    if (task_should_compute_output(0)) {
      const Tensor products = general_step_backward(at::ones_like(g), x, y, w, mean_, summed_) * h;
      results[0] = summed_ == 0 ? products : products.sum(dimensions_of(summed_));
    }
    if (task_should_compute_output(1) || task_should_compute_output(2)) {
      const Tensor scaled = general_step_backward(g, h, at::zeros_like(h), w, mean_, summed_);
      if (task_should_compute_output(1)) results[1] = scaled;
      if (task_should_compute_output(2)) results[2] = negated(scaled, w);
    }
    return results;
  }

  std::string name() const override { return "MseLossStepBackwardBackward"; }
};

// The node of transformed_step. The other tensor is the token.
class MseLossStepBackward final : public LossNode {
 public:
  variable_list apply(variable_list&& grad_outputs) override {
    const std::lock_guard lock(mutex_);
    variable_list results(2);
    if (!grad_outputs[0].defined()) return results;
    const Weight w = weight();
    const Tensor gradient = transformed_step_backward().call(
        grad_outputs[0], input_.unpack(), target_.unpack(), w, other_.unpack(), mean_, summed_);
    if (task_should_compute_output(0)) results[0] = gradient;
    if (task_should_compute_output(1)) results[1] = negated(gradient, w);
    return results;
  }

  std::string name() const override { return "MseLossStepBackward"; }
};

bool is_recorded(std::initializer_list<const Tensor*> operands) {
  return at::GradMode::is_enabled() &&
         std::any_of(operands.begin(), operands.end(),
                     [](const Tensor* operand) { return operand->requires_grad(); });
}

}  // namespace

std::tuple<Tensor, Tensor> step_with_graph(c10::DispatchKeySet keys, const Tensor& input,
                                           const Tensor& target, const Weight& weight, bool mean,
                                           int64_t summed, bool with_gradient) {
  std::tuple<Tensor, Tensor> results;
  {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    results = transformed_step().redispatch(keys & c10::after_autograd_keyset, input, target, weight, mean,
                                            summed, with_gradient);
  }
  if (is_recorded({&input, &target})) {
    const auto node = make_node<MseLossStepBackward>(input, target);
    node->save(input, target, weight, std::get<1>(results), mean, summed);
    torch::autograd::set_history(std::get<0>(results), node);
  }
  return results;
}

Tensor step_backward_with_graph(c10::DispatchKeySet keys, const Tensor& grad_output, const Tensor& input,
                                const Tensor& target, const Weight& weight, const Tensor& token, bool mean,
                                int64_t summed) {
  using torch::autograd::isFwGradDefined;
  if (isFwGradDefined(grad_output) || isFwGradDefined(input) || isFwGradDefined(target) ||
      isFwGradDefined(weight)) {
    return general_step_backward(grad_output, input, target, weight, mean, summed);
  }
  Tensor gradient;
  {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    gradient = transformed_step_backward().redispatch(keys & c10::after_autograd_keyset, grad_output, input,
                                                      target, weight, token, mean, summed);
  }
  if (is_recorded({&grad_output, &input, &target})) {
    const auto node = make_node<MseLossStepBackwardBackward>(grad_output, input, target);
    node->save(input, target, weight, grad_output, mean, summed);
    torch::autograd::set_history(gradient, node);
  }
  return gradient;
}

Tensor general_step_backward(const Tensor& grad_output, const Tensor& input, const Tensor& target,
                             const Weight& weight, bool mean, int64_t summed) {
  const Tensor upstream = with_summed_dimensions(grad_output, summed);
  const at::DimVector dimensions = dimensions_of(summed);
  if (weight) {
    static const auto found =
        find_operator<Tensor(const Tensor&, const Tensor&, const Tensor&, const Weight&, c10::string_view,
                             at::IntArrayRef)>("mseloss::slices_loss_backward");
    return found.call(upstream, input, target, weight, mean ? "mean" : "sum", dimensions);
  }
  int64_t count = mean ? 1 : 0;  // the elements of a slice for the mean, else 0
  for (const int64_t d : dimensions) count *= input.size(d);
  static const auto found = find_operator<Tensor(const Tensor&, const Tensor&, const Tensor&, c10::SymInt)>(
      "mseloss::mse_loss_backward");
  return found.call(upstream, input, target, count);
}

}  // namespace mseloss::python
