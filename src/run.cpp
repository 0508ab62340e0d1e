// Selects the backend that runs a checked plan.
#include <cstdlib>
#include <cstring>

#include "backend.h"
#include "cuda/library.h"
#include "cuda/staging.h"

namespace mseloss {

constinit const Backend* host_backend = &cpu::kBackend;

namespace {

[[maybe_unused]] const bool g_selected = [] {
  const char* name = std::getenv("MSELOSS_DEVICE");
  if (name != nullptr && std::strcmp(name, cuda::kHostBackend.name) == 0) host_backend = &cuda::kHostBackend;
  return true;
}();

}  // namespace

namespace {

// The model stands for a device, whose memory is the host's.
bool is_model() { return std::strcmp(host_backend->name, "cuda-model") == 0; }

}  // namespace

Status run(const Plan& plan, const Buffers& buffers, const Options& options) {
  if (options.device == Device::kCuda && !is_model()) [[unlikely]] {
    return cuda::run_on_device(plan, buffers, options);
  }
  return host_backend->enqueue(plan, buffers, options);
}

Status run_sum(const Plan& plan, const Buffers& buffers, const SumRequest& request, const Options& options,
               const SumTarget& target) {
  if (options.device == Device::kCuda && !is_model()) {
    return cuda::sum_on_device(plan, buffers, request, options, target);
  }
  const auto sum = host_backend->sum != nullptr ? host_backend->sum : cpu::kBackend.sum;
  return sum(plan, buffers, request, options, target);
}

Status device_copy(void* to, const void* from, size_t bytes, bool wait, const Options& options) {
  return (is_model() ? host_backend->copy : cuda::copy_on_device)(to, from, bytes, wait, options);
}

}  // namespace mseloss
