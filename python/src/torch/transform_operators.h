// Operators of the compiled step for torch.func's levels of grad and vmap:
//
//   transformed_step(Tensor input, Tensor target, bool mean, int kept, bool with_gradient)
//     -> (Tensor loss, Tensor token)
//   transformed_step_backward(Tensor grad_output, Tensor input, Tensor target, Tensor token, bool mean,
//     int kept) -> Tensor
//
// The loss of two tensors of the same shape and dtype, summed over all but the first `kept` dimensions, and
// its gradient with respect to `input`. A level of vmap adds a dimension that is kept, so the last level is
// one call of a kernel. For "none" all dimensions are kept. If a level needs a gradient, one sweep computes
// it with the loss, and it stays in the library until the backward pass asks for it with `token`
// (mseloss/torch/step_operators.py). mse_loss and mse_loss_backward (mseloss/torch/operators.py) have the
// same results, but their rules for levels, in Python, take 0.1 to 0.4 ms a call.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <tuple>
#include <vector>

namespace mseloss::python {

using Step = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& input, const at::Tensor& target, bool mean,
                                                int64_t kept, bool with_gradient);
using StepBackward = at::Tensor(const at::Tensor& grad_output, const at::Tensor& input,
                                const at::Tensor& target, const at::Tensor& token, bool mean, int64_t kept);

template <class Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}
inline const auto& transformed_step() {
  static const auto found = find_operator<Step>("mseloss::transformed_step");
  return found;
}
inline const auto& transformed_step_backward() {
  static const auto found = find_operator<StepBackward>("mseloss::transformed_step_backward");
  return found;
}

// At the levels of grad (transform_graph.cpp).
std::tuple<at::Tensor, at::Tensor> step_with_graph(c10::DispatchKeySet keys, const at::Tensor& input,
                                                   const at::Tensor& target, bool mean, int64_t kept,
                                                   bool with_gradient);
at::Tensor step_backward_with_graph(c10::DispatchKeySet keys, const at::Tensor& grad_output,
                                    const at::Tensor& input, const at::Tensor& target,
                                    const at::Tensor& token, bool mean, int64_t kept);

// One number for each kept dimension, in a shape that broadcasts with `input`.
inline at::Tensor with_reduced_dimensions(const at::Tensor& numbers, const at::Tensor& input) {
  if (numbers.dim() == input.dim()) return numbers;
  std::vector<int64_t> shape = numbers.sizes().vec();
  shape.resize(static_cast<size_t>(input.dim()), 1);
  return numbers.reshape(shape);
}

// The `count` of mse_loss_backward: the elements of a slice for the mean, else 0.
inline c10::SymInt count_of(const at::Tensor& input, bool mean, int64_t kept) {
  return mean ? c10::multiply_integers(input.sizes().slice(static_cast<size_t>(kept))) : 0;
}

// The general operator, which has derivatives of any order in reverse and in forward mode.
inline at::Tensor mse_loss_backward(const at::Tensor& grad_output, const at::Tensor& input,
                                    const at::Tensor& target, bool mean, int64_t kept) {
  static const auto found =
      find_operator<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, c10::SymInt)>(
          "mseloss::mse_loss_backward");
  return found.call(with_reduced_dimensions(grad_output, input), input, target, count_of(input, mean, kept));
}

}  // namespace mseloss::python
