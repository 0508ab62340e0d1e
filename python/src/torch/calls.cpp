#include "torch/calls.h"

#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/DimVector.h>
#include <torch/csrc/Exceptions.h>

#include "torch/core_api.h"
#include "torch/plain_tensors.h"

namespace mseloss::python {

const CoreApi* core;

namespace {

ConstTensor view(const at::Tensor& tensor) {
  return {tensor.const_data_ptr(), *dtype_of(tensor), tensor.sizes(), tensor.strides()};
}
Tensor mutable_view(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr(), *dtype_of(tensor), tensor.sizes(), tensor.strides()};
}

// Autocast on the CPU runs mse_loss in float32: half types give a float32 loss. The kernels widen half types
// anyway, so the operands need no copy.
at::ScalarType loss_dtype(const at::Tensor& x, const at::Tensor& y) {
  const at::ScalarType promoted = at::promote_types(x.scalar_type(), y.scalar_type());
  const bool half = promoted == at::kHalf || promoted == at::kBFloat16;
  return half && at::autocast::is_autocast_enabled(at::kCPU) ? at::kFloat : promoted;
}

at::Tensor empty_like(const at::Tensor& x, at::ScalarType dtype) {
  int64_t strides[kMaxRank];
  core->dense_strides(x.sizes(), x.strides(), strides);
  const at::IntArrayRef dense(strides, static_cast<size_t>(x.dim()));
  const size_t bytes = static_cast<size_t>(x.numel()) * c10::elementSize(dtype);
  if (bytes < kMinPooledBytes) return at::detail::empty_strided_cpu(x.sizes(), dense, dtype);
  Block* block = core->acquire(bytes);
  TORCH_CHECK_WITH(OutOfMemoryError, block != nullptr, "expected ", bytes,
                   " bytes for a result, got none from the system");
  return at::for_blob(block->data, x.sizes())
      .strides(dense)
      .deleter([block](void*) { core->release(block); })
      .options(x.options().dtype(dtype).requires_grad(false))
      .make_tensor();
}

at::Tensor empty_loss(const at::Tensor& x, const at::Tensor& y, Reduction reduction) {
  const at::ScalarType dtype = loss_dtype(x, y);
  return reduction == Reduction::kNone ? empty_like(x, dtype) : at::detail::empty_cpu({}, dtype);
}

// A long call ends when a signal handler raises, on the main thread, in forward and backward passes.
Options options() {
  Options options = core->torch_options();
  options.interrupt = core->signals;
  return options;
}

void check(const Status& status) {
  if (status.code() == Code::kInterrupted) {
    python_error raised;  // takes the exception of the handler across the autograd engine
    raised.persist();
    throw raised;
  }
  TORCH_CHECK_WITH(OutOfMemoryError, status.code() != Code::kOutOfMemory, status.message());
  TORCH_CHECK(status.ok(), status.message());
}

// Whether `value` is one of the dtype's, so that a float32 upstream gradient can be narrowed without loss.
bool is_exact(double value, at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? static_cast<double>(at::BFloat16(static_cast<float>(value))) == value
                                : static_cast<double>(at::Half(static_cast<float>(value))) == value;
}

}  // namespace

double value_of(const at::Tensor& scalar) {
  const void* const data = scalar.const_data_ptr();
  switch (scalar.scalar_type()) {
    case at::kFloat:
      return *static_cast<const float*>(data);
    case at::kHalf:
      return static_cast<float>(*static_cast<const at::Half*>(data));
    case at::kBFloat16:
      return static_cast<float>(*static_cast<const at::BFloat16*>(data));
    default:
      return *static_cast<const double*>(data);
  }
}

at::Tensor loss_of(const at::Tensor& x, const at::Tensor& y, Reduction reduction) {
  at::Tensor value = empty_loss(x, y, reduction);
  check(core->loss(view(x), view(y), reduction, mutable_view(value), options()));
  return value;
}

std::tuple<at::Tensor, at::Tensor> loss_and_gradient_of(const at::Tensor& x, const at::Tensor& y,
                                                        Reduction reduction) {
  at::Tensor value = empty_loss(x, y, reduction), gradient = empty_like(x, x.scalar_type());
  check(core->loss_and_grad(view(x), view(y), reduction, one_of(*dtype_of(x)), mutable_view(value),
                            mutable_view(gradient), options()));
  return {std::move(value), std::move(gradient)};
}

at::Tensor gradient_of(at::Tensor grad_output, const at::Tensor& x, const at::Tensor& y,
                       Reduction reduction) {
  if (x.scalar_type() != y.scalar_type()) {
    // loss_and_grad() alone takes two dtypes. It computes the loss again, in the same sweep.
    const at::ScalarType wide = at::promote_types(x.scalar_type(), y.scalar_type());
    if (reduction == Reduction::kNone || grad_output.scalar_type() != wide) return {};
    at::Tensor gradient = empty_like(x, x.scalar_type()), unused_loss = at::detail::empty_cpu({}, wide);
    check(core->loss_and_grad(view(x), view(y), reduction, view(grad_output), mutable_view(unused_loss),
                              mutable_view(gradient), options()));
    return gradient;
  }
  if (grad_output.scalar_type() != x.scalar_type()) {  // under autocast
    if (grad_output.dim() != 0 || x.element_size() != 2 || grad_output.scalar_type() != at::kFloat ||
        !is_exact(value_of(grad_output), x.scalar_type())) {
      return {};
    }
    grad_output = grad_output.to(x.scalar_type());
  }
  at::Tensor gradient = empty_like(x, x.scalar_type());
  check(core->grad(view(grad_output), view(x), view(y), reduction, mutable_view(gradient), options()));
  return gradient;
}

namespace {

bool are_ones(const at::Tensor& numbers) {
  bool repeated = numbers.numel() != 0;  // one number in memory, as in the gradient of a sum
  for (int64_t d = 0; d < numbers.dim(); ++d) {
    repeated = repeated && (numbers.size(d) == 1 || numbers.stride(d) == 0);
  }
  return repeated ? value_of(numbers) == 1 : numbers.eq(1).all().item<bool>();
}

// How the library sees a tensor in the shape of the loss: with an extent of 1 for each dimension that is
// summed, or without dimensions if the loss is one number.
class SlicesView {
 public:
  SlicesView(const at::Tensor& x, const Slices& slices, const at::Tensor& tensor)
      : rank_(tensor.numel() == 1 ? 0 : static_cast<size_t>(x.dim())) {
    int64_t from = 0;
    for (size_t d = 0; d < rank_; ++d) {
      const bool summed = slices.summed >> d & 1;
      extents_[d] = summed ? 1 : x.size(static_cast<int64_t>(d));
      strides_[d] = summed ? 0 : tensor.stride(from);
      if (!summed || slices.keepdim) ++from;
    }
  }
  ConstTensor read(const at::Tensor& tensor) const {
    return {tensor.const_data_ptr(), *dtype_of(tensor), {extents_, rank_}, {strides_, rank_}};
  }
  Tensor write(const at::Tensor& tensor) const {
    return {tensor.mutable_data_ptr(), *dtype_of(tensor), {extents_, rank_}, {strides_, rank_}};
  }

 private:
  size_t rank_;
  int64_t extents_[kMaxRank], strides_[kMaxRank];
};

ConstTensor weight_view(const at::Tensor& weight) {
  const DType dtype = weight.scalar_type() == at::kBool ? DType::kBool : *dtype_of(weight);
  return {weight.const_data_ptr(), dtype, weight.sizes(), weight.strides()};
}

at::Tensor empty_loss(const at::Tensor& x, const at::Tensor& y, const Slices& slices) {
  at::DimVector shape;
  for (int64_t d = 0; d < x.dim(); ++d) {
    const bool summed = slices.summed >> d & 1;
    if (!summed || slices.keepdim) shape.push_back(summed ? 1 : x.size(d));
  }
  return at::detail::empty_cpu(shape, loss_dtype(x, y));
}

}  // namespace

at::Tensor loss_of(const at::Tensor& x, const at::Tensor& y, const Slices& slices, Reduction reduction) {
  at::Tensor value = empty_loss(x, y, slices);
  const Tensor out = SlicesView(x, slices, value).write(value);
  check(slices.weight.defined()
            ? core->weighted_loss(view(x), view(y), weight_view(slices.weight), reduction, out, options())
            : core->loss(view(x), view(y), reduction, out, options()));
  return value;
}

std::tuple<at::Tensor, at::Tensor> loss_and_gradient_of(const at::Tensor& x, const at::Tensor& y,
                                                        const Slices& slices, Reduction reduction,
                                                        const at::Tensor& grad_output) {
  at::Tensor value = empty_loss(x, y, slices), gradient = empty_like(x, x.scalar_type());
  const at::Tensor& factors = grad_output.defined() ? grad_output : value;
  const SlicesView value_view(x, slices, value), factors_view(x, slices, factors);
  const ConstTensor upstream = grad_output.defined() ? factors_view.read(grad_output) : one_of(*dtype_of(x));
  const Tensor out = value_view.write(value), to = mutable_view(gradient);
  check(slices.weight.defined()
            ? core->weighted_loss_and_grad(view(x), view(y), weight_view(slices.weight), reduction, upstream,
                                           out, to, options())
            : core->loss_and_grad(view(x), view(y), reduction, upstream, out, to, options()));
  return {std::move(value), std::move(gradient)};
}

bool scale(at::Tensor& gradient, const at::Tensor& grad_output, const Slices& slices, bool weighted) {
  if (are_ones(grad_output)) return true;
  if (weighted || gradient.scalar_type() != grad_output.scalar_type() || gradient.element_size() < 4) {
    return false;
  }
  gradient.mul_(slices.keepdim ? grad_output : with_summed_dimensions(grad_output, slices.summed));
  return true;
}

}  // namespace mseloss::python
