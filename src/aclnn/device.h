// The device that runs aclnn operators. The environment variable MSELOSS_DEVICE, read once, names it; the
// default is the backend of host memory (src/backend.h): "cpu", or what MSELOSS_DEVICE makes it. A program
// can link further devices, which register themselves.
#pragma once

#include <cstdint>

#include "plan/plan.h"

namespace mseloss::aclnn {

// An operand as the caller described it, before the plan merged dimensions. Strides count elements.
struct OperandView {
  DType dtype;
  int rank;
  int64_t extent[kMaxRank];
  int64_t stride[kMaxRank];
};

// Everything a run needs except the addresses.
struct Call {
  Plan plan;
  OperandView views[kOperands];  // by Operand; set only for a device that reads them
};

struct Device {
  const char* name;
  Status (*run)(const Call& call, const Buffers& buffers);
  bool reads_views = false;
  const Device* next = nullptr;
};

// The default device's function. Other devices call it for operators that they do not run.
Status run_on_backend(const Call& call, const Buffers& buffers);

// Not thread-safe: call it from a static initialiser, before the first aclnn call.
void register_device(Device* device) noexcept;
// The selected device; null if MSELOSS_DEVICE names no registered device.
const Device* device() noexcept;

}  // namespace mseloss::aclnn
