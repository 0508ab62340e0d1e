// Selects the backend that runs a checked plan.
#include "backend.h"

namespace mseloss {

constinit const Backend* host_backend = &cpu::kBackend;

Status run(const Plan& plan, const Buffers& buffers, const Options& options) {
  return host_backend->enqueue(plan, buffers, options);
}

}  // namespace mseloss
