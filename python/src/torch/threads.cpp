#include "torch/threads.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <mutex>

namespace mseloss::python {
namespace {

// Two functions of PyTorch's stable C interface (torch/csrc/stable/c/shim.h), found at run time so that this
// module needs no PyTorch to be built and works with every version that has them. They return 0 for success.
using ParallelFor = int32_t (*)(int64_t begin, int64_t end, int64_t grain_size,
                                void (*range)(int64_t begin, int64_t end, void* context), void* context);
using GetNumThreads = int32_t (*)(uint32_t* count);

struct Functions {
  ParallelFor parallel_for = nullptr;
  GetNumThreads get_num_threads = nullptr;
};

struct Loop {
  void (*task)(void* data, int index);
  void* data;
};

bool parallel_for(void* context, int count, void (*task)(void* data, int index), void* data) {
  Loop loop{task, data};
  const auto range = [](int64_t begin, int64_t end, void* loop_context) {
    const auto& loop = *static_cast<const Loop*>(loop_context);
    for (int64_t i = begin; i < end; ++i) loop.task(loop.data, static_cast<int>(i));
  };
  // With a grain of 1, `count` is also the number of threads, unless this thread is inside a parallel loop of
  // PyTorch, which then calls `range` once.
  return static_cast<const Functions*>(context)->parallel_for(0, count, 1, range, &loop) == 0;
}

int num_threads(void* context) {
  uint32_t count = 1;
  return static_cast<const Functions*>(context)->get_num_threads(&count) == 0 ? static_cast<int>(count) : 1;
}

Functions functions;
constexpr HostThreads kThreads{&parallel_for, &num_threads, &functions};

enum class State : uint8_t { kUnknown, kFound, kMissing };
std::atomic<State> state{State::kUnknown};
std::atomic<bool> enabled{true};

State find() noexcept {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (const State known = state.load(std::memory_order_relaxed); known != State::kUnknown) return known;
  // A handle to the library that `import torch` has loaded, found by its name.
  void* library = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return State::kUnknown;
  functions.parallel_for = reinterpret_cast<ParallelFor>(dlsym(library, "torch_parallel_for"));
  functions.get_num_threads = reinterpret_cast<GetNumThreads>(dlsym(library, "torch_get_num_threads"));
  const bool found = functions.parallel_for != nullptr && functions.get_num_threads != nullptr;
  const State now = found ? State::kFound : State::kMissing;
  state.store(now, std::memory_order_release);
  return now;
}

}  // namespace

const HostThreads* torch_threads() noexcept {
  if (!enabled.load(std::memory_order_relaxed)) return nullptr;
  State known = state.load(std::memory_order_acquire);
  if (known == State::kUnknown) known = find();
  return known == State::kFound ? &kThreads : nullptr;
}

void use_torch_threads(bool use) noexcept { enabled.store(use, std::memory_order_relaxed); }

Options torch_options() noexcept {
  Options options;
  options.host_threads = torch_threads();
  return options;
}

}  // namespace mseloss::python
