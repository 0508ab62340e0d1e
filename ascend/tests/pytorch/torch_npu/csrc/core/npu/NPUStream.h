// Stand-in for torch_npu, and for the launch of a kernel: runs it on the functional model.
#pragma once

#include <c10/util/Exception.h>

#include <memory>

#include "kernel_operator.h"
#include "op_kernel/mse_loss_v2_grad_tiling.h"

#define __vector__

namespace c10_npu {
struct NPUStream {
  void* stream() const { return nullptr; }
};
inline NPUStream getCurrentNPUStream() { return {}; }
}  // namespace c10_npu

namespace model_launch {

template <typename T>
using Kernel = void(uint8_t*, uint8_t*, uint8_t*, uint8_t*, MseLossV2GradTilingData);

// kernel<T><<<blocks, 0, stream>>>(predict, label, dout, y, tiling)
template <typename T>
void Launch(Kernel<T>* kernel, uint32_t blocks, int ub, void* stream, uint8_t* predict, uint8_t* label,
            uint8_t* dout, uint8_t* y, const MseLossV2GradTilingData& tiling) {
  TORCH_CHECK(ub == 0 && stream == nullptr, "the launch is for another stream");
  ascend_model::GlobalMemory memory;
  const auto region = [&](const char* name, uint8_t* address, int64_t count, bool output) {
    memory.regions.push_back(
        {name, reinterpret_cast<uintptr_t>(address), static_cast<uint64_t>(count) * sizeof(T), output, {}});
  };
  region("predict", predict, tiling.size[kMsePredict], false);
  region("label", label, tiling.size[kMseLabel], false);
  region("dout", dout, tiling.size[kMseDout], false);
  region("y", y, tiling.total, true);
  ascend_model::Counters counters;
  try {
    for (uint32_t block = 0; block < blocks; ++block) {
      ascend_model::CoreOptions options;
      options.block = block;
      options.blocks = blocks;
      ascend_model::Core core(options, &memory, &counters);
      ascend_model::Core::SetCurrent(&core);
      kernel(predict, label, dout, y, tiling);
      core.Finish();
      ascend_model::Core::SetCurrent(nullptr);
    }
    memory.CheckWritten({{0, static_cast<uint64_t>(tiling.total) * sizeof(T)}});
  } catch (const ascend_model::Violation& violation) {
    ascend_model::Core::SetCurrent(nullptr);
    TORCH_CHECK(false, violation.what());
  }
}

}  // namespace model_launch
