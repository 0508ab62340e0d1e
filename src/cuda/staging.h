// MSELOSS_DEVICE=cuda: calls on host memory run on the current CUDA device. Operands are copied there,
// outputs back, and the call waits. It is for programs, aclnn's above all, that know nothing of device
// memory; data that stays on the device needs Options::device instead.
#pragma once

#include "backend.h"
#include "cuda/driver.h"

namespace mseloss::cuda {

extern const Backend kHostBackend;

// What the backend does, with any driver.
Status run_staged(const Driver& driver, const Plan& plan, const Buffers& buffers, const Options& options);

}  // namespace mseloss::cuda
