#include "aclnn/device.h"

#include <cstdlib>
#include <cstring>

namespace mseloss::aclnn {
namespace {

Status run_on_cpu(const Call& call, const Buffers& buffers) { return run(call.plan, buffers, Options{}); }

const Device kCpu{"cpu", run_on_cpu};
const Device* g_devices = &kCpu;

}  // namespace

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
