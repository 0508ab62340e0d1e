// The gradient operators under the parameter names of Python: the library calls the gradient `grad_input`,
// the Python functions call it `out`, and error messages name the parameter.
#pragma once

#include "mseloss/mseloss.h"

namespace mseloss::python {

// As mseloss::grad.
Status grad_into_out(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                     Reduction reduction, const Tensor& out, const Options& options);

// As mseloss::loss_and_grad; `weight` is null for none.
Status loss_and_grad_into_out(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
                              Reduction reduction, const ConstTensor& grad_output, const Tensor& loss,
                              const Tensor& out, const Options& options);

}  // namespace mseloss::python
