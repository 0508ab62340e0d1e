// The eager step with a weight, or over some of the dimensions.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/python_headers.h>

#include "mseloss/mseloss.h"

namespace mseloss::python {

// The mean or sum of two plain tensors of the same shape and dtype, of which only x may require a gradient,
// with `weight` (a plain tensor of that dtype or a mask, which broadcasts to that shape, or None) over `dim`
// (an int, a tuple or a list of them, or None). Undefined, to leave the call to Python, for all others, with
// hooks for saved tensors, and for wrong arguments. Needs the GIL.
at::Tensor sliced_loss(const at::Tensor& x, const at::Tensor& y, Reduction reduction, PyObject* weight,
                       PyObject* dim, PyObject* keepdim);

}  // namespace mseloss::python
