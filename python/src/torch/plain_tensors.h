// Which tensors and calls the compiled PyTorch step may handle, and how the library sees such tensors. The
// two tests are those of kernel_reads in mseloss/torch/readable.py.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/forward_grad.h>

#include <algorithm>
#include <optional>

#include "arrays/dtypes.h"

namespace mseloss::python {

inline std::optional<DType> dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return DType::kFloat32;
    case at::kHalf:
      return DType::kFloat16;
    case at::kBFloat16:
      return DType::kBFloat16;
    case at::kDouble:
      return DType::kFloat64;
    default:
      return std::nullopt;
  }
}

// Whether a CPU tensor has no further dispatch keys: not batched, fake, lazily negated or zero.
inline bool has_plain_keys(const at::Tensor& tensor) {
  constexpr c10::DispatchKeySet plain({c10::DispatchKey::CPU, c10::DispatchKey::AutogradCPU,
                                       c10::DispatchKey::AutocastCPU, c10::DispatchKey::ADInplaceOrView});
  return (tensor.key_set().raw_repr() & ~plain.raw_repr()) == 0;
}

// Whether the kernels can read a tensor as it is. One whose storage has been freed is left to Python, which
// names the parameter.
inline bool is_plain(const at::Tensor& tensor) {
  return has_plain_keys(tensor) && tensor.dim() <= kMaxRank && dtype_of(tensor) &&
         tensor.unsafeGetTensorImpl()->storage_initialized();
}

// Whether a shape broadcasts to another one, without changing that.
inline bool broadcasts_to(at::IntArrayRef shape, at::IntArrayRef to) {
  if (shape.size() > to.size()) return false;
  const auto last = to.slice(to.size() - shape.size());
  return std::equal(shape.begin(), shape.end(), last.begin(),
                    [](int64_t extent, int64_t whole) { return extent == whole || extent == 1; });
}

// Whether the kernels can read a weight of tensors of this dtype, which may be a mask.
inline bool is_plain_weight(const at::Tensor& weight, at::ScalarType dtype) {
  if (weight.scalar_type() == dtype) return is_plain(weight);
  return weight.scalar_type() == at::kBool && has_plain_keys(weight) && weight.dim() <= kMaxRank &&
         weight.unsafeGetTensorImpl()->storage_initialized();
}

// Whether something other than the keys in `expected` intercepts operators: a transform, a dispatch mode, a
// tracer or forward-mode differentiation.
inline bool is_intercepted(c10::DispatchKeySet expected = {}) {
  constexpr c10::DispatchKeySet usual({c10::DispatchKey::BackendSelect, c10::DispatchKey::ADInplaceOrView});
  const auto included = c10::impl::tls_local_dispatch_key_set().included_;
  return (included.raw_repr() & ~(usual | expected).raw_repr()) != 0 ||
         torch::autograd::ForwardADLevel::try_get_by_idx(0) != nullptr;
}

}  // namespace mseloss::python
