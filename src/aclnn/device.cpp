#include "aclnn/device.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "backend.h"
#include "numerics/float_environment.h"
#include "numerics/formats.h"

namespace mseloss::aclnn {
namespace {

// CANN rounds a sum to the inputs' promoted dtype first and converts the result to the output's dtype.
Status run_sum(const Plan& plan, const Buffers& buffers) {
  double sum;
  Plan stored = plan;
  stored.loss_dtype = plan.dtype;
  Buffers temporary = buffers;
  temporary.data[kOut] = &sum;
  if (Status status = run(stored, temporary, Options{}); !status.ok()) return status;
  const FloatEnvironment environment;
  store_rounded(load(plan.dtype, &sum), plan.loss_dtype, buffers[kOut]);
  return {};
}

// The same for the sums of slices, by way of a contiguous array.
Status run_slice_sums(const Plan& plan, const Buffers& buffers) {
  if (plan.slices == 0) return {};
  const int from_size = size_of(plan.dtype), to_size = size_of(plan.loss_dtype);
  const size_t bytes = static_cast<size_t>(plan.slices) * from_size;
  const std::unique_ptr<char[]> sums(new (std::nothrow) char[bytes]);
  if (sums == nullptr) {
    return Status::error(Code::kOutOfMemory, "scratch: expected %zu bytes of memory, got none", bytes);
  }
  Plan stored = plan;
  stored.loss_dtype = stored.dtypes[kLossOut] = plan.dtype;
  stored.offset[kLossOut] = 0;
  int64_t dense = 1;
  for (int d = plan.rank; d-- > 0;) {
    if (is_reduced(plan, d)) continue;
    stored.stride[kLossOut][d] = dense;
    dense *= plan.extent[d];
  }
  Buffers temporary = buffers;
  temporary.data[kLossOut] = sums.get();
  if (Status status = run(stored, temporary, Options{}); !status.ok()) return status;
  const FloatEnvironment environment;
  const char* sum = sums.get();
  return for_each_slice(plan, [&](const int64_t* offset) {
    store_rounded(load(plan.dtype, sum), plan.loss_dtype,
                  static_cast<char*>(buffers[kLossOut]) + offset[kLossOut] * to_size);
    sum += from_size;
    return Status();
  });
}

// Linked devices; the library's own backend is always there.
const Device* g_devices = nullptr;

}  // namespace

Status run_on_backend(const Call& call, const Buffers& buffers) {
  const Plan& plan = call.plan;
  const bool two_roundings = plan.op == Op::kLoss && has_sum(plan) && plan.loss_dtype != plan.dtype;
  if (two_roundings && plan.sliced) return run_slice_sums(plan, buffers);
  if (two_roundings) return run_sum(plan, buffers);
  return run(plan, buffers, Options{});
}

void register_device(Device* device) noexcept {
  device->next = g_devices;
  g_devices = device;
}

const Device* device() noexcept {
  static const Device* const selected = [] {
    static const Device own{host_backend->name, run_on_backend};
    const char* name = std::getenv("MSELOSS_DEVICE");
    if (name == nullptr || *name == '\0' || std::strcmp(name, own.name) == 0) return &own;
    const Device* device = g_devices;
    while (device != nullptr && std::strcmp(device->name, name) != 0) device = device->next;
    return device;
  }();
  return selected;
}

}  // namespace mseloss::aclnn
