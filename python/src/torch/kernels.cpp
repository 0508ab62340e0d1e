#include "torch/kernels.h"

#include <pthread.h>

#include <cmath>
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
#include "numerics/float_environment.h"
#include "numerics/formats.h"
#include "plan/plan.h"
#include "torch/stable.h"
#include "torch/threads.h"

namespace mseloss::python {
namespace {

const TorchFunctions* torch;
constexpr int32_t kNoIndex = -1;  // the CPU is one device

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

int32_t torch_dtype(DType dtype) {
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
    if (torch_dtype(dtype) != number) continue;
    const auto count = static_cast<size_t>(rank);
    *view = {data, dtype, {sizes, count}, {strides, count}};
    return true;
  }
  return false;
}

Reduction reduction_of(bool mean) { return mean ? Reduction::kMean : Reduction::kSum; }
DType loss_dtype(const ConstTensor& x, const ConstTensor& y, bool wide) {
  const DType dtype = promote(x.dtype, y.dtype);
  return wide && size_of(dtype) == 2 ? DType::kFloat32 : dtype;
}

// A dense tensor and where to write it.
struct Result {
  OwnedTensor tensor;
  Tensor view;
};

bool set_view(Result* result) {
  ConstTensor view;
  void* data;
  if (!read(result->tensor, &view) || torch->get_mutable_data_ptr(result->tensor.get(), &data) != 0) {
    return false;
  }
  result->view = {data, view.dtype, view.shape, view.strides};
  return true;
}

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

// The last context that was freed on this thread.
thread_local const void* freed;

// A tensor over `memory`, which Free(context) frees with the tensor, or at once if PyTorch cannot make one;
// then the result is null.
template <void (*Free)(void* context)>
TorchTensor from_memory(void* memory, std::span<const int64_t> shape, const int64_t* strides, int32_t dtype,
                        void* context) {
  const auto deleter = [](void*, void* owner) {
    freed = owner;
    Free(owner);
  };
  TorchTensor tensor = nullptr;
  freed = nullptr;
  const int32_t failed =
      torch->from_blob(memory, static_cast<int64_t>(shape.size()), shape.data(), strides, 0, dtype,
                       torch->cpu(), kNoIndex, &tensor, torch->strided(), nullptr, 0, deleter, context);
  // A failure after PyTorch has taken the memory has freed it.
  if (failed != 0 && freed != context) Free(context);
  return failed != 0 ? nullptr : tensor;
}

void free_block(void* block) { release(static_cast<Block*>(block)); }

Result empty(std::span<const int64_t> shape, bool channels_last, DType dtype) {
  const Strides strides(shape, channels_last);
  const auto rank = static_cast<int64_t>(shape.size());
  const size_t bytes = static_cast<size_t>(element_count(shape)) * size_of(dtype);
  TorchTensor tensor = nullptr;
  if (bytes < kMinPooledBytes) {
    torch->empty_strided(rank, shape.data(), strides.data(), torch_dtype(dtype), torch->cpu(), kNoIndex,
                         &tensor);
  } else if (Block* const block = acquire(bytes); block != nullptr) {
    tensor = from_memory<free_block>(block->data, shape, strides.data(), torch_dtype(dtype), block);
  }
  if (tensor == nullptr) return {};
  Result result{OwnedTensor(tensor), {}};
  set_view(&result);
  return result;
}

// Gradients that forward passes have computed for their backward passes. Each belongs to a token, a tensor
// that is saved with the graph, and is freed with it. The address of the token's memory is the key: it
// belongs to no other tensor as long as the token lives, and a copy of the token, which hooks for saved
// tensors and caches make, has another and finds nothing.
class KeptGradients {
 public:
  // The token, a zero; null without memory.
  OwnedTensor keep(OwnedTensor gradient) noexcept {
    auto* const memory = new (std::nothrow) int64_t(0);
    if (memory == nullptr) return {};
    try {
      const std::lock_guard lock(mutex_);
      gradients_.emplace(memory, std::move(gradient));
    } catch (const std::bad_alloc&) {
      delete memory;
      return {};
    }
    return OwnedTensor(from_memory<free_token>(memory, {}, nullptr, torch->int64(), memory));
  }

  // The gradient; null if it has been taken, or for a copy of a token.
  OwnedTensor take(const void* memory) noexcept {
    OwnedTensor gradient;
    const std::lock_guard lock(mutex_);
    if (const auto found = gradients_.find(memory); found != gradients_.end()) {
      gradient = std::move(found->second);
      gradients_.erase(found);
    }
    return gradient;
  }

  // Not destroyed: a token may be freed while the process ends.
  static KeptGradients& all() {
    static KeptGradients& instance = *new KeptGradients;
    return instance;
  }

 private:
  // A forked child finds the mutex unlocked.
  KeptGradients() {
    pthread_atfork([] { all().mutex_.lock(); }, [] { all().mutex_.unlock(); }, [] { all().mutex_.unlock(); });
  }

  static void free_token(void* memory) {
    all().take(memory);
    delete static_cast<int64_t*>(memory);
  }

  std::mutex mutex_;
  std::unordered_map<const void*, OwnedTensor> gradients_;
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
  OwnedTensor token = KeptGradients::all().keep(std::move(gradient.tensor));
  if (!token) return kNoMemory;
  stack[0] = out.tensor.release();
  stack[1] = token.release();
  return nullptr;
}

template <class T>
void scale(const Result& gradient, T factor) {
  struct Product {
    T* values;
    T factor;
  } product{static_cast<T*>(gradient.view.data), factor};
  constexpr int64_t kGrain = 1 << 15;  // as in PyTorch's own elementwise loops
  const auto range = [](int64_t begin, int64_t end, void* context) {
    const FloatEnvironment environment;
    const Product& p = *static_cast<const Product*>(context);
    for (int64_t i = begin; i < end; ++i) p.values[i] *= p.factor;
  };
  torch->parallel_for(0, element_count(gradient.view.shape), kGrain, range, &product);
}

// Multiplies a dense gradient for the upstream gradient 1 by another. Returns false if the products would not
// be exact: a gradient in a half type has been rounded, possibly to zero.
bool scale(const Result& gradient, const ConstTensor& g) {
  const double factor = load(g.dtype, g.data);
  if (factor == 1) return true;
  if (g.dtype != gradient.view.dtype || size_of(g.dtype) == 2) return false;
  g.dtype == DType::kFloat64 ? scale(gradient, factor) : scale(gradient, static_cast<float>(factor));
  return true;
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
  const void* token_memory = nullptr;
  torch->get_const_data_ptr(token.get(), &token_memory);
  Result gradient;
  gradient.tensor = KeptGradients::all().take(token_memory);
  if (gradient.tensor && set_view(&gradient) && scale(gradient, g)) {
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

// PyTorch raises the exception: one that crossed from this module into another C++ library might not be
// understood there. Nothing in this frame needs to be destroyed.
template <const char* (*Run)(TorchValue*)>
void kernel(TorchValue* stack, uint64_t, uint64_t) {
  const char* const failed = Run(stack);
  if (failed != nullptr) torch->check(false, "mseloss", __FILE_NAME__, 0, failed);
}

bool register_all() noexcept {
  torch = torch_functions();
  KeptGradients::all();  // not first by a step: a child forked meanwhile would wait for its construction
  TorchLibrary library;  // not deleted: the kernels remain registered
  if (torch == nullptr || !torch->has_kernels() ||
      torch->library_init("mseloss", "CPU", __FILE_NAME__, 0, &library) != 0) {
    return false;
  }
  constexpr std::pair<const char*, TorchKernel> kernels[] = {
      {"mse_loss_value", &kernel<value>},
      {"mse_loss_step", &kernel<step>},
      {"mse_loss_step_backward", &kernel<step_backward>},
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
