// The gradient of one part of a larger tensor, shared by mseloss._core.grad_part and the JAX handlers.
#pragma once

#include <cstdint>

#include "mseloss/mseloss.h"

namespace mseloss::python {

// out = ((input - target) * scale) * grad_output with scale = 2 / count, correctly rounded; a `count` of 0
// means scale = 2. `count` is the element count of the whole tensor. Otherwise like mseloss::grad.
// `holds_unit_gradient`: `out` has the gradient for a grad_output of 1 already, and a device may leave it.
Status grad_part(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                 int64_t count, const Tensor& out, const Options& options = {},
                 bool holds_unit_gradient = false);

// out = ((input - target) * scale) * (weight * grad_output) with any scale.
Status weighted_grad_part(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                          const ConstTensor& weight, double scale, const Tensor& out,
                          const Options& options = {}, bool holds_unit_gradient = false);

}  // namespace mseloss::python
