#include "torch/kernels.h"

#include <cstdint>
#include <cstdio>
#include <mutex>
#include <new>
#include <span>
#include <unordered_map>
#include <utility>

#include "arrays/dtypes.h"
#include "arrays/result_array.h"
#include "memory/pool.h"
#include "mseloss/mseloss.h"
#include "numerics/formats.h"
#include "torch/stable.h"
#include "torch/threads.h"

namespace mseloss::python {
namespace {

const TorchFunctions* torch;
constexpr int32_t kAnyIndex = -1;  // from_blob() refuses 0 for the CPU

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
thread_local char message[512];

const char* failure(const Status& status) {
  std::snprintf(message, sizeof message, "%s", status.message());
  return message;
}
constexpr const char* kNoMemory = "the result needs more memory than the system has";
constexpr const char* kNotReadable =
    "expected tensors of the CPU with one of the four dtypes and at most 8 dimensions";

int32_t number_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return torch->float16();
    case DType::kBFloat16:
      return torch->bfloat16();
    case DType::kFloat64:
      return torch->float64();
    default:
      return torch->float32();
  }
}

bool read(const OwnedTensor& tensor, ConstTensor* view) {
  int64_t rank, *sizes, *strides;
  int32_t number;
  const void* data;
  if (torch->get_dim(tensor.get(), &rank) != 0 || rank > kMaxRank ||
      torch->get_sizes(tensor.get(), &sizes) != 0 || torch->get_strides(tensor.get(), &strides) != 0 ||
      torch->get_dtype(tensor.get(), &number) != 0 || torch->get_const_data_ptr(tensor.get(), &data) != 0) {
    return false;
  }
  for (const DType dtype : kDTypes) {
    if (number_of(dtype) != number) continue;
    const auto count = static_cast<size_t>(rank);
    *view = {data, dtype, {sizes, count}, {strides, count}};
    return true;
  }
  return false;
}

DType promoted(DType a, DType b) {
  if (a == b) return a;
  return a == DType::kFloat64 || b == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}
Reduction reduction_of(bool mean) { return mean ? Reduction::kMean : Reduction::kSum; }
DType loss_dtype(const ConstTensor& x, const ConstTensor& y, bool wide) {
  const DType dtype = promoted(x.dtype, y.dtype);
  return wide && size_of(dtype) == 2 ? DType::kFloat32 : dtype;
}

// A new dense tensor and where to write it.
struct Result {
  OwnedTensor tensor;
  Tensor view;
};

// In row-major order, or with `channels_last` in that order, as torch.empty() has it.
class Strides {
 public:
  Strides(std::span<const int64_t> shape, bool channels_last) {
    int64_t stride = 1;
    const auto place = [&](size_t i) {
      values_[i] = stride;
      stride *= shape[i] > 1 ? shape[i] : 1;
    };
    if (channels_last) place(1);
    for (size_t i = shape.size(); i-- > 0;) {
      if (!channels_last || i != 1) place(i);
    }
  }
  const int64_t* data() const { return values_; }

 private:
  int64_t values_[kMaxRank];
};

// A tensor over `memory`, which the deleter frees; null if PyTorch cannot make one.
TorchTensor from_memory(void* memory, std::span<const int64_t> shape, const int64_t* strides, int32_t dtype,
                        void (*deleter)(void* memory, void* context), void* context) {
  TorchTensor tensor = nullptr;
  torch->from_blob(memory, static_cast<int64_t>(shape.size()), shape.data(), strides, 0, dtype, torch->cpu(),
                   kAnyIndex, &tensor, torch->strided(), nullptr, 0, deleter, context);
  return tensor;
}

Result empty(std::span<const int64_t> shape, bool channels_last, DType dtype) {
  const Strides strides(shape, channels_last);
  const auto rank = static_cast<int64_t>(shape.size());
  const size_t bytes = static_cast<size_t>(element_count(shape)) * size_of(dtype);
  TorchTensor tensor = nullptr;
  void* data = nullptr;
  if (bytes < kMinPooledBytes) {
    torch->empty_strided(rank, shape.data(), strides.data(), number_of(dtype), torch->cpu(), kAnyIndex,
                         &tensor);
  } else if (Block* const block = acquire(bytes); block != nullptr) {
    const auto deleter = [](void*, void* context) { release(static_cast<Block*>(context)); };
    tensor = from_memory(block->data, shape, strides.data(), number_of(dtype), deleter, block);
    if (tensor == nullptr) release(block);
  }
  if (tensor == nullptr) return {};
  Result result{OwnedTensor(tensor), {}};
  int64_t *sizes, *own_strides;
  torch->get_mutable_data_ptr(tensor, &data);
  torch->get_sizes(tensor, &sizes);
  torch->get_strides(tensor, &own_strides);
  result.view = {data, dtype, {sizes, shape.size()}, {own_strides, shape.size()}};
  return result;
}

// Gradients that forward passes have computed for their backward passes. Each belongs to a token, an int64
// tensor that is saved with the graph: the gradient is freed with it. A copy of a token, which hooks for
// saved tensors make, names a gradient that may be gone; the backward pass then computes it again.
class KeptGradients {
 public:
  // The token, or null without memory.
  OwnedTensor keep(OwnedTensor gradient) noexcept {
    auto* const id = new (std::nothrow) int64_t;
    if (id == nullptr) return {};
    try {
      const std::lock_guard lock(mutex_);
      *id = ++last_;
      gradients_.emplace(*id, std::move(gradient));
    } catch (const std::bad_alloc&) {
      delete id;
      return {};
    }
    const auto deleter = [](void*, void* context) {
      auto* const number = static_cast<int64_t*>(context);
      kept().take(*number);
      delete number;
    };
    const TorchTensor token = from_memory(id, {}, nullptr, torch->int64(), deleter, id);
    if (token == nullptr) deleter(id, id);
    return OwnedTensor(token);
  }

  // The gradient; null if it has been taken.
  OwnedTensor take(int64_t id) noexcept {
    OwnedTensor gradient;
    const std::lock_guard lock(mutex_);
    if (const auto found = gradients_.find(id); found != gradients_.end()) {
      gradient = std::move(found->second);
      gradients_.erase(found);
    }
    return gradient;
  }

  // Not destroyed: a token may be freed while the process ends.
  static KeptGradients& kept() {
    static auto& all = *new KeptGradients;
    return all;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<int64_t, OwnedTensor> gradients_;
  int64_t last_ = 0;
};

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
  OwnedTensor token = KeptGradients::kept().keep(std::move(gradient.tensor));
  if (!token) return kNoMemory;
  stack[0] = out.tensor.release();
  stack[1] = token.release();
  return nullptr;
}

// The gradient if scaling its kept value gives the exact result; null otherwise.
OwnedTensor scaled(OwnedTensor kept, const ConstTensor& g, OwnedTensor* grad_output, DType dtype) {
  if (load(g.dtype, g.data) == 1) return kept;
  // A gradient in a half type has been rounded, possibly to zero.
  if (g.dtype != dtype || size_of(dtype) == 2) return {};
  TorchValue stack[] = {kept.release(), grad_output->release()};
  if (torch->call_dispatcher("aten::mul_", "Tensor", stack, kTorchVersion) != 0) return {};
  return OwnedTensor(stack[0]);
}

// mse_loss_step_backward(Tensor grad_output, Tensor input, Tensor target, SymInt count, Tensor token,
//                        bool channels_last) -> Tensor
const char* step_backward(TorchValue* stack) {
  OwnedTensor grad_output(stack[0]), input(stack[1]), target(stack[2]);
  const Reduction reduction = reduction_of(stack[3] != 0);
  const OwnedTensor token(stack[4]);
  const bool channels_last = stack[5] & 1;
  ConstTensor g, x, y;
  const void* id;
  if (!read(grad_output, &g) || !read(input, &x) || !read(target, &y) || g.shape.size() != 0 ||
      torch->get_const_data_ptr(token.get(), &id) != 0) {
    return kNotReadable;
  }
  const double factor = load(g.dtype, g.data);
  if (OwnedTensor kept = KeptGradients::kept().take(*static_cast<const int64_t*>(id)); kept) {
    if (OwnedTensor gradient = scaled(std::move(kept), g, &grad_output, x.dtype); gradient) {
      stack[0] = gradient.release();
      return nullptr;
    }
    if (!grad_output) return kNoMemory;  // the product has failed
  }
  Result gradient = empty(x.shape, channels_last, x.dtype);
  if (!gradient.tensor) return kNoMemory;
  Status status;
  double narrow, unused_loss;
  const DType wide = promoted(x.dtype, y.dtype);
  store_rounded(factor, wide, &narrow);
  const bool exact = load(wide, &narrow) == factor;
  const ConstTensor upstream(&narrow, wide);
  if (exact && x.dtype == y.dtype) {
    status = grad(upstream, x, y, reduction, gradient.view, torch_options());
  } else if (exact) {  // grad() takes one dtype only
    status =
        loss_and_grad(x, y, reduction, upstream, Tensor(&unused_loss, wide), gradient.view, torch_options());
  } else {
    TorchValue arguments[] = {grad_output.release(), input.release(), target.release(), stack[3],
                              channels_last};
    if (torch->call_dispatcher("mseloss::mse_loss_wide_gradient", "", arguments, kTorchVersion) != 0) {
      return kNoMemory;
    }
    stack[0] = arguments[0];
    return nullptr;
  }
  if (!status.ok()) return failure(status);
  stack[0] = gradient.tensor.release();
  return nullptr;
}

// PyTorch raises the exception: one that crossed from this module into another C++ library might not be
// understood there. Nothing in this frame needs to be destroyed.
template <const char* (*Run)(TorchValue*)>
void kernel(TorchValue* stack, uint64_t, uint64_t) {
  const char* const failed = Run(stack);
  if (failed != nullptr) torch->check(false, "mseloss", __FILE_NAME__, 0, failed);
}

bool register_all() noexcept {
  torch = torch_functions();
  TorchLibrary library;  // never deleted: the kernels remain registered
  if (torch == nullptr || torch->from_blob == nullptr ||
      torch->library_init("mseloss", "CPU", __FILE_NAME__, 0, &library) != 0) {
    return false;
  }
  constexpr std::pair<const char*, TorchKernel> kernels[] = {
      {"mse_loss_value", &kernel<value>},
      {"mse_loss_step", &kernel<step>},
      {"mse_loss_step_backward", &kernel<step_backward>},
  };
  for (const auto& [name, run] : kernels) {
    if (torch->library_impl(library, name, run, kTorchVersion) != 0) return false;
  }
  return true;
}

}  // namespace

bool register_torch_kernels() noexcept {
  static const bool registered = register_all();
  return registered;
}

}  // namespace mseloss::python
