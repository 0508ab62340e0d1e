// Tensors of PyTorch as the C++ kernels of its operators see them, and the gradients kept for backward
// passes.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "mseloss/mseloss.h"
#include "torch/stable.h"

namespace mseloss::python {

// Set before the first kernel is registered.
extern const TorchFunctions* torch;

class OwnedTensor {
 public:
  OwnedTensor() = default;
  explicit OwnedTensor(TorchTensor tensor) : tensor_(tensor) {}
  explicit OwnedTensor(TorchValue value) : tensor_(reinterpret_cast<TorchTensor>(value)) {}
  OwnedTensor(OwnedTensor&& other) noexcept : tensor_(std::exchange(other.tensor_, nullptr)) {}
  OwnedTensor& operator=(OwnedTensor&& other) noexcept {
    std::swap(tensor_, other.tensor_);
    return *this;
  }
  ~OwnedTensor() {
    if (tensor_ != nullptr) torch->delete_tensor(tensor_);
  }
  explicit operator bool() const { return tensor_ != nullptr; }
  TorchTensor get() const { return tensor_; }
  TorchValue release() { return reinterpret_cast<TorchValue>(std::exchange(tensor_, nullptr)); }

 private:
  TorchTensor tensor_ = nullptr;
};

// Why a kernel failed, for the exception that PyTorch raises.
const char* failure(const Status& status);
inline constexpr const char* kNoMemory = "the result needs more memory than the system has";
inline constexpr const char* kNotReadable =
    "expected tensors of the CPU with one of the four dtypes and at most 8 dimensions";

bool read(const OwnedTensor& tensor, ConstTensor* view);
// Of dtype bool too.
bool read_weight(const OwnedTensor& tensor, ConstTensor* view);

inline Reduction reduction_of(bool mean) { return mean ? Reduction::kMean : Reduction::kSum; }
DType loss_dtype(const ConstTensor& x, const ConstTensor& y, bool wide);

// A dense tensor and where to write it.
struct Result {
  OwnedTensor tensor;
  Tensor view;
};

// False for a null tensor.
bool set_view(Result* result);
// In row-major order, or with `channels_last` in that order, as torch.empty() has it. Null without memory.
Result empty(std::span<const int64_t> shape, bool channels_last, DType dtype);

// Gradients that forward passes have computed for their backward passes. Each belongs to a token, a tensor
// that is saved with the graph, and is freed with it. The address of the token's memory is the key: it
// belongs to no other tensor as long as the token lives, and a copy of the token, which hooks for saved
// tensors and caches make, has another and finds nothing.

// Not first by a step: a child forked meanwhile would wait for the construction of what all steps share.
void prepare_to_keep_gradients();
// Keeps the gradient; the results of the operator are the loss and the gradient's token, a zero. Returns
// null, or why it failed.
const char* return_with_token(Result loss, Result gradient, TorchValue* results) noexcept;
// The kept gradient of a token; null for a copy of the token, and if it has been taken before.
Result take_gradient(const OwnedTensor& token) noexcept;
// Multiplies a dense gradient for the upstream gradient 1 by another, `g` of one element. Returns false if
// the products would not be exact: a gradient in a half type has been rounded, possibly to zero, and
// `weighted` ones are products of rounded numbers.
bool scale(const Result& gradient, const ConstTensor& g, bool weighted);

// PyTorch raises the exception: one that crossed from this module into another C++ library might not be
// understood there. Nothing in this frame needs to be destroyed.
template <const char* (*Run)(TorchValue*)>
void kernel(TorchValue* stack, uint64_t, uint64_t) {
  const char* const failed = Run(stack);
  if (failed != nullptr) torch->check(false, "mseloss", __FILE_NAME__, 0, failed);
}

}  // namespace mseloss::python
