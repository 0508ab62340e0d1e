// Operators of the compiled step for torch.func's levels of grad and vmap:
//
//   transformed_step(Tensor input, Tensor target, Tensor? weight, bool mean, int summed, bool with_gradient)
//     -> (Tensor loss, Tensor token)
//   transformed_step_backward(Tensor grad_output, Tensor input, Tensor target, Tensor? weight, Tensor token,
//     bool mean, int summed) -> Tensor
//
// The loss of two tensors of the same shape and dtype over some of the dimensions, and its gradient with
// respect to `input`. Bit i of `summed` is set if dimension i is summed; the loss does not have it. For
// "none" no bit is set. `weight` is of the same dtype or a mask, and broadcasts to the shape of `input`.
//
// A level of vmap adds a dimension that is not summed, so the last level is one call of a kernel. If a level
// needs a gradient, one sweep computes it with the loss, and it stays in the library until the backward pass
// asks for it with `token` (mseloss/torch/step_operators.py). mse_loss, slices_loss and their derivatives
// have the same results, but their rules for levels, in Python, take 0.1 to 0.6 ms a call.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <tuple>

#include "torch/calls.h"

namespace mseloss::python {

using Weight = std::optional<at::Tensor>;
using Step = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& input, const at::Tensor& target,
                                                const Weight& weight, bool mean, int64_t summed,
                                                bool with_gradient);
using StepBackward = at::Tensor(const at::Tensor& grad_output, const at::Tensor& input,
                                const at::Tensor& target, const Weight& weight, const at::Tensor& token,
                                bool mean, int64_t summed);

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
                                                   const at::Tensor& target, const Weight& weight, bool mean,
                                                   int64_t summed, bool with_gradient);
at::Tensor step_backward_with_graph(c10::DispatchKeySet keys, const at::Tensor& grad_output,
                                    const at::Tensor& input, const at::Tensor& target, const Weight& weight,
                                    const at::Tensor& token, bool mean, int64_t summed);

// transformed_step_backward by the general operators, which have derivatives of any order in reverse and in
// forward mode.
at::Tensor general_step_backward(const at::Tensor& grad_output, const at::Tensor& input,
                                 const at::Tensor& target, const Weight& weight, bool mean, int64_t summed);

}  // namespace mseloss::python
