#include "torch/slice_kernels.h"

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "arrays/dtypes.h"
#include "arrays/result_array.h"
#include "mseloss/mseloss.h"
#include "numerics/formats.h"
#include "torch/tensors.h"
#include "torch/threads.h"

namespace mseloss::python {
namespace {

// The operands, and the shape of the loss, in which the reduced dimensions have extent 1. `input` has the
// broadcast shape. Bit i of `dims` is set if dimension i is reduced.
struct Operands {
  OwnedTensor input, target, weight;
  bool weighted;  // otherwise `weight` is any tensor
  ConstTensor x, y, w;
  int64_t extents[kMaxRank];
  bool whole = true;  // all dimensions are reduced

  Operands(TorchValue a, TorchValue b, TorchValue c, bool with_weight)
      : input(a), target(b), weight(c), weighted(with_weight) {}

  bool read(uint64_t dims) {
    if (!python::read(input, &x) || !python::read(target, &y)) return false;
    if (weighted && !read_weight(weight, &w)) return false;
    for (size_t i = 0; i < x.shape.size(); ++i) {
      const bool reduced = dims >> i & 1;
      extents[i] = reduced ? 1 : x.shape[i];
      whole = whole && reduced;
    }
    return true;
  }

  std::span<const int64_t> kept() const { return {extents, x.shape.size()}; }
  // A sum of all elements has a plan of its own, for a loss without dimensions.
  Tensor target_of(const Result& loss) const {
    return whole ? Tensor(loss.view.data, loss.view.dtype) : loss.view;
  }
};

template <size_t kSize>
bool are_all(const void* elements, int64_t count, const void* value) {
  const char* at = static_cast<const char*>(elements);
  for (const char* const end = at + count * kSize; at != end; at += kSize) {
    if (std::memcmp(at, value, kSize) != 0) return false;
  }
  return true;
}

// Whether all elements of `g` are 1.
bool is_one(const ConstTensor& g) {
  int64_t dense = 1;  // the stride of the next dimension in row-major order; 0 if they are in another
  for (size_t d = g.shape.size(); d-- > 0;) {
    if (g.shape[d] != 1 && g.strides[d] != dense) dense = 0;
    dense *= g.shape[d];
  }
  if (dense != 0) {
    const void* const one = one_of(g.dtype).data;
    if (size_of(g.dtype) == 2) return are_all<2>(g.data, dense, one);
    return size_of(g.dtype) == 4 ? are_all<4>(g.data, dense, one) : are_all<8>(g.data, dense, one);
  }
  int64_t index[kMaxRank] = {}, offset = 0;
  for (;;) {
    if (load(g.dtype, static_cast<const char*>(g.data) + offset * size_of(g.dtype)) != 1) return false;
    size_t d = g.shape.size();
    while (d-- > 0) {
      if (g.strides[d] == 0) continue;
      offset += g.strides[d];
      if (++index[d] < g.shape[d]) break;
      offset -= g.strides[d] * g.shape[d];
      index[d] = 0;
    }
    if (d == SIZE_MAX) return true;
  }
}

// Multiplies a gradient for upstream gradients of 1 by others, as scale() does.
bool scale_slices(Result* gradient, OwnedTensor* upstream, const ConstTensor& g, bool weighted) {
  const int64_t count = element_count(g.shape);
  if (count == 0) return true;
  if (g.data == nullptr) return false;
  if (count == 1) return scale(*gradient, g, weighted);
  if (is_one(g)) return true;
  if (g.dtype != gradient->view.dtype || size_of(g.dtype) == 2 || weighted) return false;
  TorchTensor copy = nullptr;  // the operator takes its arguments
  if (torch->new_tensor_handle(upstream->get(), &copy) != 0) return false;
  TorchValue arguments[] = {gradient->tensor.release(), OwnedTensor(copy).release()};
  if (torch->call_dispatcher("aten::mul_", "Tensor", arguments, kTorchVersion) != 0) return false;
  gradient->tensor = OwnedTensor(arguments[0]);
  return true;
}

}  // namespace

// slices_value(Tensor input, Tensor target, Tensor weight, bool weighted, bool mean, int dims, bool wide)
//   -> Tensor
const char* slices_value(TorchValue* stack) {
  Operands in(stack[0], stack[1], stack[2], stack[3] & 1);
  if (!in.read(stack[5])) return kNotReadable;
  Result out = empty(in.kept(), false, loss_dtype(in.x, in.y, stack[6] & 1));
  if (!out.tensor) return kNoMemory;
  const Reduction reduction = reduction_of(stack[4] & 1);
  const Tensor value = in.target_of(out);
  const Status status = in.weighted ? loss(in.x, in.y, in.w, reduction, value, torch_options())
                                    : loss(in.x, in.y, reduction, value, torch_options());
  if (!status.ok()) return failure(status);
  stack[0] = out.tensor.release();
  return nullptr;
}

// slices_step(Tensor input, Tensor target, Tensor weight, bool weighted, bool mean, int dims, bool wide,
//             bool channels_last) -> (Tensor loss, Tensor token)
const char* slices_step(TorchValue* stack) {
  Operands in(stack[0], stack[1], stack[2], stack[3] & 1);
  if (!in.read(stack[5])) return kNotReadable;
  Result out = empty(in.kept(), false, loss_dtype(in.x, in.y, stack[6] & 1));
  Result gradient = empty(in.x.shape, stack[7] & 1, in.x.dtype);
  if (!out.tensor || !gradient.tensor) return kNoMemory;
  const Reduction reduction = reduction_of(stack[4] & 1);
  const ConstTensor one = one_of(in.x.dtype);
  const Tensor value = in.target_of(out);
  const Status status =
      in.weighted ? loss_and_grad(in.x, in.y, in.w, reduction, one, value, gradient.view, torch_options())
                  : loss_and_grad(in.x, in.y, reduction, one, value, gradient.view, torch_options());
  if (!status.ok()) return failure(status);
  return return_with_token(std::move(out), std::move(gradient), stack);
}

// slices_step_backward(Tensor grad_output, Tensor input, Tensor target, Tensor weight, bool weighted,
//                      bool mean, int dims, Tensor token, bool channels_last) -> Tensor
const char* slices_step_backward(TorchValue* stack) {
  OwnedTensor grad_output(stack[0]);
  Operands in(stack[1], stack[2], stack[3], stack[4] & 1);
  const OwnedTensor token(stack[7]);
  ConstTensor g;
  if (!read(grad_output, &g)) return kNotReadable;
  Result gradient = take_gradient(token);
  if (gradient.tensor && scale_slices(&gradient, &grad_output, g, in.weighted)) {
    stack[0] = gradient.tensor.release();
    return nullptr;
  }
  TorchValue arguments[] = {grad_output.release(),
                            in.input.release(),
                            in.target.release(),
                            in.weight.release(),
                            stack[4],
                            stack[5],
                            stack[6],
                            stack[8]};
  if (torch->call_dispatcher("mseloss::slices_gradient", "", arguments, kTorchVersion) != 0) {
    return "slices_gradient has failed";
  }
  stack[0] = arguments[0];
  return nullptr;
}

}  // namespace mseloss::python
