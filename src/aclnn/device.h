// Where an aclnn operator runs: MSELOSS_DEVICE in the environment, read once, names a device. "cpu", the
// library's own backends, is the default; a program may link others that add themselves.
#pragma once

#include <cstdint>

#include "plan/plan.h"

namespace mseloss::aclnn {

// An operand as the caller described it, before the plan merged its dimensions. Strides count elements.
struct View {
  DType dtype;
  int rank;
  int64_t extent[kMaxRank];
  int64_t stride[kMaxRank];
};

// All that a run needs but the addresses.
struct Call {
  Plan plan;
  View views[kOperands];  // by Operand
};

struct Device {
  const char* name;
  Status (*run)(const Call& call, const Buffers& buffers);
  const Device* next = nullptr;
};

// For static initialisers, before the first aclnn call.
void add_device(Device* device) noexcept;
// Null when MSELOSS_DEVICE names none.
const Device* device() noexcept;

}  // namespace mseloss::aclnn
