#include "aclnn/device.h"

#include <cstdlib>
#include <cstring>

#include "aclnn/loss_out.h"
#include "numerics/float_environment.h"
#include "numerics/formats.h"

namespace mseloss::aclnn {
namespace {

// Rounds a sum to the inputs' dtype first, as CANN does, and converts the result to the output's dtype.
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

const Device kCpu{"cpu", run_on_cpu};
const Device* g_devices = &kCpu;

}  // namespace

Status run_on_cpu(const Call& call, const Buffers& buffers) {
  const Plan& plan = call.plan;
  if (call.first_dimension) return run_loss_out(call, buffers);
  const bool sums = plan.op == Op::kLoss && plan.reduction != Reduction::kNone;
  if (sums && plan.loss_dtype != plan.dtype) return run_sum(plan, buffers);
  return run(plan, buffers, Options{});
}

void register_device(Device* device) noexcept {
  device->next = g_devices;
  g_devices = device;
}

const Device* device() noexcept {
  static const Device* const selected = [] {
    const char* name = std::getenv("MSELOSS_DEVICE");
    if (name == nullptr || *name == '\0') name = kCpu.name;
    const Device* device = g_devices;
    while (device != nullptr && std::strcmp(device->name, name) != 0) device = device->next;
    return device;
  }();
  return selected;
}

}  // namespace mseloss::aclnn
