// The interface of a backend, which runs plans on one kind of device.
#pragma once

#include <cstddef>

#include "numerics/sum_access.h"
#include "plan/plan.h"

namespace mseloss {

// A sweep for PartialSum over the plan of a loss with kSum, or of such a loss with its gradient.
struct SumRequest {
  bool exact = false;
  bool weights_only = false;  // sum(w) without the squares
};

struct Backend {
  const char* name;
  // Runs a checked plan. A backend of device memory enqueues it on the stream of `options` and does not wait;
  // one of host memory returns when the results are written. The backend owns threads, launches and scratch
  // memory, divides the work, and decides whether a fast sum is enough. After an error of its
  // first sweep, other than kInterrupted, nothing has been written.
  Status (*enqueue)(const Plan& plan, const Buffers& buffers, const Options& options);
  // Sets `target`, which is empty, and writes a gradient; waits for the device, because the sum is the
  // host's. Null if the CPU does it.
  Status (*sum)(const Plan& plan, const Buffers& buffers, const SumRequest& request, const Options& options,
                const SumTarget& target);
  // Copies between host and device memory, or within the latter, in stream order; with `wait` the host waits
  // for the stream. Null without device memory.
  Status (*copy)(void* to, const void* from, size_t bytes, bool wait, const Options& options);
};

namespace cpu {
extern const Backend kBackend;
}

// The backend of operands in host memory: the CPU's, or the one that the environment variable MSELOSS_DEVICE
// names when the library is loaded ("cuda", "cuda-model").
extern constinit const Backend* host_backend;
// The backend of operands in device memory.
const Backend& device_backend();

inline const Backend& backend_of(const Options& options) {
  return options.device == Device::kCuda ? device_backend() : *host_backend;
}

// Runs a checked plan; see Backend::enqueue.
inline Status run(const Plan& plan, const Buffers& buffers, const Options& options) {
  return backend_of(options).enqueue(plan, buffers, options);
}

// Runs a sweep for PartialSum on the device of `options`.
Status run_sum(const Plan& plan, const Buffers& buffers, const SumRequest& request, const Options& options,
               const SumTarget& target);

// Copies on the CUDA device of `options`, as Backend::copy.
Status device_copy(void* to, const void* from, size_t bytes, bool wait, const Options& options);

}  // namespace mseloss
