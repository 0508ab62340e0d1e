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

const Backend& device_backend() {
  static constexpr Backend kDevice{"cuda", &cuda::run_on_device, &cuda::sum_on_device, &cuda::copy_on_device};
  // On the model of a device, device memory is host memory.
  return std::strcmp(host_backend->name, "cuda-model") == 0 ? *host_backend : kDevice;
}

Status run_sum(const Plan& plan, const Buffers& buffers, const SumRequest& request, const Options& options,
               const SumTarget& target) {
  const auto sum = backend_of(options).sum;
  return (sum != nullptr ? sum : cpu::kBackend.sum)(plan, buffers, request, options, target);
}

Status device_copy(void* to, const void* from, size_t bytes, bool wait, const Options& options) {
  return device_backend().copy(to, from, bytes, wait, options);
}

}  // namespace mseloss
