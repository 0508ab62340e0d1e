#include "torch/tensors.h"

#include <pthread.h>

#include <cstdio>
#include <mutex>
#include <new>
#include <unordered_map>

#include "arrays/dtypes.h"
#include "arrays/result_array.h"
#include "memory/pool.h"
#include "numerics/float_environment.h"
#include "numerics/formats.h"
#include "plan/plan.h"

namespace mseloss::python {

const TorchFunctions* torch;

namespace {

constexpr int32_t kNoIndex = -1;  // the CPU is one device

int32_t torch_dtype(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return torch->float16();
    case DType::kBFloat16:
      return torch->bfloat16();
    case DType::kFloat64:
      return torch->float64();
    case DType::kBool:
      return torch->boolean();
    default:
      return torch->float32();
  }
}

bool read(const OwnedTensor& tensor, std::span<const DType> dtypes, ConstTensor* view) {
  int64_t rank, *sizes, *strides;
  int32_t number;
  const void* data;
  if (torch->get_dim(tensor.get(), &rank) != 0 || rank > kMaxRank ||
      torch->get_sizes(tensor.get(), &sizes) != 0 || torch->get_strides(tensor.get(), &strides) != 0 ||
      torch->get_dtype(tensor.get(), &number) != 0 || torch->get_const_data_ptr(tensor.get(), &data) != 0) {
    return false;
  }
  for (const DType dtype : dtypes) {
    if (torch_dtype(dtype) != number) continue;
    const auto count = static_cast<size_t>(rank);
    *view = {data, dtype, {sizes, count}, {strides, count}};
    return true;
  }
  return false;
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

  // The kept gradient of a token; null for a copy of the token, and if it has been taken before.
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

}  // namespace

const char* failure(const Status& status) {
  thread_local char message[512];
  std::snprintf(message, sizeof message, "%s", status.message());
  return message;
}

bool read(const OwnedTensor& tensor, ConstTensor* view) { return read(tensor, kDTypes, view); }

bool read_weight(const OwnedTensor& tensor, ConstTensor* view) {
  constexpr DType kMask[] = {DType::kBool};
  return read(tensor, kDTypes, view) || read(tensor, kMask, view);
}

DType loss_dtype(const ConstTensor& x, const ConstTensor& y, bool wide) {
  const DType dtype = promote(x.dtype, y.dtype);
  return wide && size_of(dtype) == 2 ? DType::kFloat32 : dtype;
}

bool set_view(Result* result) {
  ConstTensor view;
  void* data;
  if (!read(result->tensor, &view) || torch->get_mutable_data_ptr(result->tensor.get(), &data) != 0) {
    return false;
  }
  result->view = {data, view.dtype, view.shape, view.strides};
  return true;
}

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

void prepare_to_keep_gradients() { KeptGradients::all(); }

const char* return_with_token(Result loss, Result gradient, TorchValue* results) noexcept {
  OwnedTensor token = KeptGradients::all().keep(std::move(gradient.tensor));
  if (!token) return kNoMemory;
  results[0] = loss.tensor.release();
  results[1] = token.release();
  return nullptr;
}

Result take_gradient(const OwnedTensor& token) noexcept {
  const void* memory = nullptr;
  torch->get_const_data_ptr(token.get(), &memory);
  Result gradient{KeptGradients::all().take(memory), {}};
  if (gradient.tensor && !set_view(&gradient)) gradient.tensor = {};
  return gradient;
}

bool scale(const Result& gradient, const ConstTensor& g, bool weighted) {
  const double factor = load(g.dtype, g.data);
  if (factor == 1) return true;
  if (g.dtype != gradient.view.dtype || size_of(g.dtype) == 2 || weighted) return false;
  g.dtype == DType::kFloat64 ? scale(gradient, factor) : scale(gradient, static_cast<float>(factor));
  return true;
}

}  // namespace mseloss::python
