#include "torch/threads.h"

#include <atomic>
#include <cstdint>

#include "torch/stable.h"

namespace mseloss::python {
namespace {

struct Loop {
  void (*task)(void* data, int index);
  void* data;
};

bool parallel_for(void*, int count, void (*task)(void* data, int index), void* data) {
  Loop loop{task, data};
  const auto range = [](int64_t begin, int64_t end, void* loop_context) {
    const auto& loop = *static_cast<const Loop*>(loop_context);
    for (int64_t i = begin; i < end; ++i) loop.task(loop.data, static_cast<int>(i));
  };
  // With a grain of 1, `count` is also the number of threads, unless this thread is inside a parallel loop of
  // PyTorch, which then calls `range` once.
  return torch_functions()->parallel_for(0, count, 1, range, &loop) == 0;
}

int num_threads(void*) {
  uint32_t count = 1;
  return torch_functions()->get_num_threads(&count) == 0 ? static_cast<int>(count) : 1;
}

constexpr HostThreads kThreads{&parallel_for, &num_threads, nullptr};

std::atomic<bool> enabled{true};

}  // namespace

const HostThreads* torch_threads() noexcept {
  if (!enabled.load(std::memory_order_relaxed)) return nullptr;
  const TorchFunctions* const functions = torch_functions();
  return functions != nullptr && functions->has_threads() ? &kThreads : nullptr;
}

void use_torch_threads(bool use) noexcept { enabled.store(use, std::memory_order_relaxed); }

Options torch_options() noexcept {
  Options options;
  options.host_threads = torch_threads();
  return options;
}

}  // namespace mseloss::python
