// The library's functions on PyTorch's tensors, for the compiled step: plain tensors (plain_tensors.h), of
// which x and y have the same shape. They need no GIL, and should not be called with it for large tensors.
// Results have the memory order of x. A failure is PyTorch's exception.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/DimVector.h>

#include <cstdint>
#include <tuple>

#include "mseloss/mseloss.h"

namespace mseloss::python {

struct CoreApi;
extern const CoreApi* core;  // set before the first call

// The element of a 0-dimensional tensor; item() goes through the dispatcher and takes a microsecond.
double value_of(const at::Tensor& scalar);

// Under autocast the loss of half types is float32.
at::Tensor loss_of(const at::Tensor& x, const at::Tensor& y, Reduction reduction);
// loss_of() and, in the same sweep, the gradient with respect to x for an upstream gradient of 1.
std::tuple<at::Tensor, at::Tensor> loss_and_gradient_of(const at::Tensor& x, const at::Tensor& y,
                                                        Reduction reduction);
// The gradient with respect to x, or an undefined tensor if Python must compute it.
at::Tensor gradient_of(at::Tensor grad_output, const at::Tensor& x, const at::Tensor& y, Reduction reduction);

// A loss with a weight, or over some of the dimensions, of an x that has the broadcast shape.
struct Slices {
  at::Tensor weight;     // plain or a plain mask; undefined without weights
  uint32_t summed = 0;   // one bit for each dimension of x
  bool keepdim = false;  // whether these dimensions remain with extent 1
};
// The dimensions that are summed.
inline at::DimVector dimensions_of(int64_t summed) {
  at::DimVector dimensions;
  for (int64_t d = 0; summed >> d != 0; ++d) {
    if (summed >> d & 1) dimensions.push_back(d);
  }
  return dimensions;
}

// Numbers in the shape of the loss with extents of 1 for the dimensions that are summed.
inline at::Tensor with_summed_dimensions(at::Tensor numbers, int64_t summed) {
  for (const int64_t d : dimensions_of(summed)) numbers = numbers.unsqueeze(d);
  return numbers;
}

at::Tensor loss_of(const at::Tensor& x, const at::Tensor& y, const Slices& slices, Reduction reduction);
// `grad_output` has the shape of the loss and the dtype of x; undefined for 1.
std::tuple<at::Tensor, at::Tensor> loss_and_gradient_of(const at::Tensor& x, const at::Tensor& y,
                                                        const Slices& slices, Reduction reduction,
                                                        const at::Tensor& grad_output);

// Multiplies a gradient for an upstream gradient of 1 by another one, in place. Returns false if the products
// would not be the exact result: a gradient in a half type has been rounded, possibly to zero, and one with
// weights is a product with fl(weight * grad_output).
bool scale(at::Tensor& gradient, const at::Tensor& grad_output, const Slices& slices, bool weighted);

}  // namespace mseloss::python
