// The interface of a backend, which runs plans on one kind of device.
#pragma once

#include "plan/plan.h"

namespace mseloss {

struct Backend {
  const char* name;
  // Enqueues a checked plan on the stream of `options`; a backend without streams runs it to completion. The
  // backend owns threads, launches and scratch memory, divides the work, and decides whether a fast sum is
  // enough. It never waits for its device. On an error that it returns nothing was written.
  Status (*enqueue)(const Plan& plan, const Buffers& buffers, const Options& options);
};

namespace cpu {
extern const Backend kBackend;
}

// The backend of operands in host memory: the CPU's, or the one that the environment variable MSELOSS_DEVICE
// names when the library is loaded ("cuda", "cuda-model").
extern constinit const Backend* host_backend;
// The backend of operands in device memory.
const Backend& device_backend();

// Runs a checked plan; see Backend::enqueue.
inline Status run(const Plan& plan, const Buffers& buffers, const Options& options) {
  const Backend& backend = options.device == Device::kCuda ? device_backend() : *host_backend;
  return backend.enqueue(plan, buffers, options);
}

}  // namespace mseloss
