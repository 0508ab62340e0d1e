#include "torch/kernels.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "arrays/dtypes.h"
#include "mseloss/mseloss.h"
#include "numerics/formats.h"
#include "plan/plan.h"
#include "torch/slice_kernels.h"
#include "torch/tensors.h"
#include "torch/threads.h"

namespace mseloss::python {
namespace {

// The kernels. Each returns null, or why it failed.

// mse_loss_value(Tensor input, Tensor target, bool mean, bool wide) -> Tensor
const char* value(TorchValue* stack) {
  const OwnedTensor input(stack[0]), target(stack[1]);
  ConstTensor x, y;
  if (!read(input, &x) || !read(target, &y)) return kNotReadable;
  Result out = empty({}, false, loss_dtype(x, y, stack[3] & 1));
  if (!out.tensor) return kNoMemory;
  const Status status = loss(x, y, reduction_of(stack[2] & 1), out.view, torch_options());
  if (!status.ok()) return failure(status);
  stack[0] = out.tensor.release();
  return nullptr;
}

// mse_loss_step(Tensor input, Tensor target, bool mean, bool wide, bool channels_last)
//   -> (Tensor loss, Tensor token)
const char* step(TorchValue* stack) {
  const OwnedTensor input(stack[0]), target(stack[1]);
  ConstTensor x, y;
  if (!read(input, &x) || !read(target, &y)) return kNotReadable;
  Result out = empty({}, false, loss_dtype(x, y, stack[3] & 1));
  Result gradient = empty(x.shape, stack[4] & 1, x.dtype);
  if (!out.tensor || !gradient.tensor) return kNoMemory;
  const Status status = loss_and_grad(x, y, reduction_of(stack[2] & 1), one_of(x.dtype), out.view,
                                      gradient.view, torch_options());
  if (!status.ok()) return failure(status);
  return return_with_token(std::move(out), std::move(gradient), stack);
}

// mse_loss_step_backward(Tensor grad_output, Tensor input, Tensor target, SymInt count, Tensor token,
//                        bool channels_last) -> Tensor
// `count` is 0 for a sum, and for the mean of nothing.
const char* step_backward(TorchValue* stack) {
  OwnedTensor grad_output(stack[0]), input(stack[1]), target(stack[2]);
  const Reduction reduction = reduction_of(stack[3] != 0);
  const OwnedTensor token(stack[4]);
  const bool channels_last = stack[5] & 1;
  ConstTensor g, x, y;
  if (!read(grad_output, &g) || !read(input, &x) || !read(target, &y)) return kNotReadable;
  if (!g.shape.empty() || g.data == nullptr) return "grad_output: expected a 0-dimensional tensor";
  Result gradient = take_gradient(token);
  if (gradient.tensor && scale(gradient, g, false)) {
    stack[0] = gradient.tensor.release();
    return nullptr;
  }
  gradient.tensor = {};
  const DType dtype = promote(x.dtype, y.dtype);
  const double factor = load(g.dtype, g.data);
  double upstream, unused_loss;
  store_rounded(factor, dtype, &upstream);
  // Not under autocast, where the upstream gradient of half types is float32.
  const bool exact = load(dtype, &upstream) == factor || std::isnan(factor);
  if (!exact) {
    TorchValue arguments[] = {grad_output.release(), input.release(), target.release(), stack[3],
                              channels_last};
    if (torch->call_dispatcher("mseloss::mse_loss_wide_gradient", "", arguments, kTorchVersion) != 0) {
      return "mse_loss_wide_gradient has failed";
    }
    stack[0] = arguments[0];
    return nullptr;
  }
  gradient = empty(x.shape, channels_last, x.dtype);
  if (!gradient.tensor) return kNoMemory;
  const ConstTensor scalar(&upstream, dtype);
  const Options options = torch_options();
  const Status status =  // grad() takes one dtype only
      x.dtype == y.dtype
          ? grad(scalar, x, y, reduction, gradient.view, options)
          : loss_and_grad(x, y, reduction, scalar, Tensor(&unused_loss, dtype), gradient.view, options);
  if (!status.ok()) return failure(status);
  stack[0] = gradient.tensor.release();
  return nullptr;
}

bool register_all() noexcept {
  torch = torch_functions();
  prepare_to_keep_gradients();
  TorchLibrary library;  // not deleted: the kernels remain registered
  if (torch == nullptr || !torch->has_kernels() ||
      torch->library_init("mseloss", "CPU", __FILE_NAME__, 0, &library) != 0) {
    return false;
  }
  constexpr std::pair<const char*, TorchKernel> kernels[] = {
      {"mse_loss_value", &kernel<value>},
      {"mse_loss_step", &kernel<step>},
      {"mse_loss_step_backward", &kernel<step_backward>},
      {"slices_value", &kernel<slices_value>},
      {"slices_step", &kernel<slices_step>},
      {"slices_step_backward", &kernel<slices_step_backward>},
  };
  for (const auto& [name, run] : kernels) {
    if (torch->library_impl(library, name, run, kTorchVersion) != 0) {
      torch->delete_library(library);  // removes those that were registered
      return false;
    }
  }
  return true;
}

}  // namespace

bool register_torch_kernels() noexcept {
  static const bool registered = register_all();
  return registered;
}

}  // namespace mseloss::python
