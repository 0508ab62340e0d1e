// aclInit and aclFinalize, the device, and contexts.
#include <thread>

#include "acl/runtime.h"

namespace mseloss::acl {

constinit Contexts contexts;

namespace {

struct Process {
  std::mutex mutex;
  bool initialised = false;
  bool finalised = false;
  void* device_context = nullptr;  // device 0's default context
  int64_t set_calls = 0;           // aclrtSetDevice calls without a matching aclrtResetDevice
};
constinit Process g_process;

thread_local void* t_context = nullptr;
thread_local int64_t t_set_calls = 0;  // this thread's part of Process::set_calls

void release_device() noexcept {
  destroy_context(std::exchange(g_process.device_context, nullptr));
  g_process.set_calls = 0;
}

aclError check_device(const char* function, int32_t device) noexcept {
  if (device == 0) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_INVALID_DEVICEID, "%s: deviceId: expected 0, the only device, got %d", function,
              device);
}

aclError check_initialised(const char* function) noexcept {
  if (g_process.initialised) return ACL_SUCCESS;
  return fail(ACL_ERROR_UNINITIALIZE, "%s: expected aclInit to be called before, got no such call", function);
}

// `timeout` in milliseconds; -1 waits without limit.
aclError synchronize_device(const char* function, int32_t timeout) noexcept {
  if (const aclError code = check_timeout(function, timeout)) return code;
  const auto context = contexts.acquire(t_context);
  if (!context) return check_context(function);
  aclError failure = ACL_SUCCESS;
  const bool in_time = wait_all(*context, timeout, &failure);
  return report_wait(function, timeout, in_time, failure);
}

}  // namespace

void* current_context() noexcept { return t_context; }

aclError check_context(const char* function) noexcept {
  if (t_context != nullptr && contexts.acquire(t_context)) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_CONTEXT_NULL,
              "%s: expected this thread to have a context (aclrtSetDevice, aclrtSetCurrentContext), got %s",
              function, t_context == nullptr ? "none" : "one that has been destroyed");
}

void* create_context() noexcept {
  void* handle = contexts.insert();
  if (handle == nullptr) return nullptr;
  void* stream = create_stream(handle);
  if (stream == nullptr) {
    contexts.retire(handle);
    return nullptr;
  }
  contexts.acquire(handle)->default_stream = stream;
  return handle;
}

bool destroy_context(void* handle) noexcept {
  const auto context = contexts.acquire(handle);
  if (!context || !contexts.retire(handle)) return false;
  drain(*context, true);
  for (;;) {
    void* stream;
    {
      const std::lock_guard lock(context->mutex);
      if (context->first == nullptr) return true;
      stream = context->first->self;
    }
    // If another thread is already destroying this stream, it will unlink it soon.
    if (!destroy_stream(stream)) std::this_thread::yield();
  }
}

}  // namespace mseloss::acl

using namespace mseloss::acl;

aclError aclInit(const char*) {
  const std::lock_guard lock(g_process.mutex);
  if (g_process.initialised) {
    return fail(ACL_ERROR_REPEAT_INITIALIZE,
                "aclInit: expected aclFinalize() before another aclInit(), got a second call");
  }
  g_process.initialised = true;
  return ACL_SUCCESS;
}

aclError aclFinalize(void) {
  const std::lock_guard lock(g_process.mutex);
  if (!g_process.initialised && g_process.finalised) {
    return fail(ACL_ERROR_REPEAT_FINALIZE, "aclFinalize: expected one call after aclInit, got a second");
  }
  if (const aclError code = check_initialised(__func__)) return code;
  release_device();
  g_process.initialised = false;
  g_process.finalised = true;
  return ACL_SUCCESS;
}

aclError aclrtSetDevice(int32_t deviceId) {
  const std::lock_guard lock(g_process.mutex);
  if (const aclError code = check_initialised(__func__)) return code;
  if (const aclError code = check_device(__func__, deviceId)) return code;
  if (g_process.device_context == nullptr) {
    g_process.device_context = create_context();
    if (g_process.device_context == nullptr) {
      return out_of_memory(__func__);
    }
  }
  if (t_context != g_process.device_context) t_set_calls = 0;
  t_context = g_process.device_context;
  ++t_set_calls;
  ++g_process.set_calls;
  return ACL_SUCCESS;
}

aclError aclrtResetDevice(int32_t deviceId) {
  const std::lock_guard lock(g_process.mutex);
  if (const aclError code = check_device(__func__, deviceId)) return code;
  void* const context = g_process.device_context;
  if (context == nullptr) return check_context(__func__);
  if (t_set_calls > 0 && --t_set_calls == 0 && t_context == context) t_context = nullptr;
  if (--g_process.set_calls <= 0) release_device();
  return ACL_SUCCESS;
}

aclError aclrtResetDeviceForce(int32_t deviceId) {
  const std::lock_guard lock(g_process.mutex);
  if (const aclError code = check_device(__func__, deviceId)) return code;
  if (g_process.device_context == nullptr) return check_context(__func__);
  if (t_context == g_process.device_context) t_context = nullptr;
  t_set_calls = 0;
  release_device();
  return ACL_SUCCESS;
}

aclError aclrtGetDevice(int32_t* deviceId) {
  if (const aclError code = check_not_null(__func__, "deviceId", deviceId)) return code;
  if (const aclError code = check_context(__func__)) return code;
  *deviceId = 0;
  return ACL_SUCCESS;
}

aclError aclrtGetDeviceCount(uint32_t* count) {
  if (const aclError code = check_not_null(__func__, "count", count)) return code;
  *count = 1;
  return ACL_SUCCESS;
}

aclError aclrtSynchronizeDevice(void) { return synchronize_device(__func__, -1); }

aclError aclrtSynchronizeDeviceWithTimeout(int32_t timeout) { return synchronize_device(__func__, timeout); }

aclError aclrtGetRunMode(aclrtRunMode* runMode) {
  if (const aclError code = check_not_null(__func__, "runMode", runMode)) return code;
  *runMode = ACL_HOST;
  return ACL_SUCCESS;
}

const char* aclrtGetSocName(void) { return "mseloss-cpu"; }

aclError aclrtCreateContext(aclrtContext* context, int32_t deviceId) {
  if (const aclError code = check_not_null(__func__, "context", context)) return code;
  const std::lock_guard lock(g_process.mutex);
  if (const aclError code = check_initialised(__func__)) return code;
  if (const aclError code = check_device(__func__, deviceId)) return code;
  void* handle = create_context();
  if (handle == nullptr) {
    return out_of_memory(__func__);
  }
  *context = t_context = handle;
  return ACL_SUCCESS;
}

aclError aclrtDestroyContext(aclrtContext context) {
  if (const aclError code = check_not_null(__func__, "context", context)) return code;
  {
    const std::lock_guard lock(g_process.mutex);
    if (context == g_process.device_context) {
      return fail(ACL_ERROR_RT_CONTEXT_NULL,
                  "%s: context: expected a context from aclrtCreateContext, got the device's default context "
                  "%p, which aclrtResetDevice destroys",
                  __func__, context);
    }
  }
  if (!destroy_context(context)) {
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: context: expected a live context, got %p", __func__,
                context);
  }
  if (t_context == context) t_context = nullptr;
  return ACL_SUCCESS;
}

aclError aclrtSetCurrentContext(aclrtContext context) {
  if (const aclError code = check_not_null(__func__, "context", context)) return code;
  if (!contexts.acquire(context)) {
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: context: expected a live context, got %p", __func__,
                context);
  }
  t_context = context;
  return ACL_SUCCESS;
}

aclError aclrtGetCurrentContext(aclrtContext* context) {
  if (const aclError code = check_not_null(__func__, "context", context)) return code;
  if (const aclError code = check_context(__func__)) return code;
  *context = t_context;
  return ACL_SUCCESS;
}
