// Selects the backend that runs a checked plan.
#include "backend.h"
#include "cuda/library.h"

namespace mseloss {

constinit const Backend* host_backend = &cpu::kBackend;

Status run(const Plan& plan, const Buffers& buffers, const Options& options) {
  if (options.device == Device::kCuda) [[unlikely]] return cuda::run_on_device(plan, buffers, options);
  return host_backend->enqueue(plan, buffers, options);
}

}  // namespace mseloss
