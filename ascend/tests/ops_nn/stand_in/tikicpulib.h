// Stand-in for CANN's CPU simulation: kernels run on the functional model, and memory of GmAlloc is all they
// may access.
#pragma once

#include <cstdlib>
#include <map>
#include <stdexcept>

#include "kernel_operator.h"

namespace model_cpu {

inline std::map<uint8_t*, size_t>& Allocations() {
  static std::map<uint8_t*, size_t> allocations;
  return allocations;
}

template <typename Kernel, typename... Arguments>
void Run(Kernel* kernel, uint32_t blocks, Arguments... arguments) {
  ascend_model::GlobalMemory memory;
  for (const auto& [address, bytes] : Allocations()) {
    for (const bool output : {false, true}) {
      memory.regions.push_back({"memory", reinterpret_cast<uintptr_t>(address), bytes, output, {}});
    }
  }
  ascend_model::Counters counters;
  for (uint32_t block = 0; block < blocks; ++block) {
    ascend_model::CoreOptions options;
    options.block = block;
    options.blocks = blocks;
    ascend_model::Core core(options, &memory, &counters);
    ascend_model::Core::SetCurrent(&core);
    kernel(arguments...);
    core.Finish();
    ascend_model::Core::SetCurrent(nullptr);
  }
}

}  // namespace model_cpu

enum class KernelMode { AIV_MODE };
#define ICPU_RUN_KF(kernel, blocks, ...) model_cpu::Run(&kernel, blocks, __VA_ARGS__)

namespace AscendC {
inline void SetKernelMode(KernelMode) {}
inline void* GmAlloc(size_t bytes) {
  auto* const memory = static_cast<uint8_t*>(std::malloc(bytes));
  model_cpu::Allocations()[memory] = bytes;
  return memory;
}
inline void GmFree(void* memory) {
  model_cpu::Allocations().erase(static_cast<uint8_t*>(memory));
  std::free(memory);
}
}  // namespace AscendC
