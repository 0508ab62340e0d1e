// The functions of mseloss._core that the compiled PyTorch step calls, through the capsule `_core._native`,
// so that both modules use one copy of the library and one memory pool.
#pragma once

#include <cstdint>
#include <span>

#include "memory/pool.h"
#include "mseloss/mseloss.h"
#include "torch/threads.h"

namespace mseloss::python {

struct CoreApi {
  Status (*grad)(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                 Reduction reduction, const Tensor& grad_input, const Options& options);
  Status (*loss)(const ConstTensor& input, const ConstTensor& target, Reduction reduction, const Tensor& out,
                 const Options& options);
  Status (*loss_and_grad)(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                          const ConstTensor& grad_output, const Tensor& loss, const Tensor& grad_input,
                          const Options& options);
  Status (*weighted_loss)(const ConstTensor& input, const ConstTensor& target, const ConstTensor& weight,
                          Reduction reduction, const Tensor& out, const Options& options);
  Status (*weighted_loss_and_grad)(const ConstTensor& input, const ConstTensor& target,
                                   const ConstTensor& weight, Reduction reduction,
                                   const ConstTensor& grad_output, const Tensor& loss,
                                   const Tensor& grad_input, const Options& options);
  decltype(&python::acquire) acquire;
  decltype(&python::release) release;
  decltype(&python::torch_options) torch_options;
  // See arrays/result_array.h.
  void (*dense_strides)(std::span<const int64_t> shape, std::span<const int64_t> like, int64_t* strides);
  // See module/signals.h. A call that it ends leaves Python's exception set.
  const Interrupt* signals;
};
inline constexpr const char* kCoreApiCapsule = "mseloss._core._native";

}  // namespace mseloss::python
