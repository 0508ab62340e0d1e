// The exported stream functions.
#include "acl/runtime.h"

namespace mseloss::acl {

aclError find_stream(const char* function, aclrtStream handle, Streams::Pin* stream) noexcept {
  void* const context = current_context();
  if (handle == nullptr) {
    const auto pin = contexts.acquire(context);
    if (!pin) return check_context(function);
    *stream = streams.acquire(pin->default_stream);
    return *stream ? ACL_SUCCESS : check_context(function);
  }
  *stream = streams.acquire(handle);
  // A live stream keeps its context alive, so a match needs no further check of the context.
  if (*stream && (*stream)->context == context) return ACL_SUCCESS;
  if (const aclError code = check_context(function)) return code;
  if (!*stream) {
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: stream: expected a live stream or null, got %p", function,
                handle);
  }
  return fail(ACL_ERROR_RT_STREAM_CONTEXT,
              "%s: stream: expected one of this thread's context %p, got one of %p", function, context,
              (*stream)->context);
}

aclError out_of_memory(const char* function) noexcept {
  return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "%s: out of memory", function);
}

aclError report_wait(const char* function, int32_t timeout, bool in_time, aclError failure) noexcept {
  if (!in_time) {
    return fail(ACL_ERROR_RT_STREAM_SYNC_TIMEOUT,
                "%s: expected work on a stream to finish within %d ms, got a timeout", function, timeout);
  }
  if (failure == ACL_SUCCESS) return failure;
  return fail(failure, "%s: work on a stream failed with %d%s", function, failure,
              failure == ACL_ERROR_RT_MEMORY_ALLOCATION ? ", out of memory" : "");
}

}  // namespace mseloss::acl

using namespace mseloss::acl;

namespace {

// `timeout` in milliseconds; -1 waits without limit.
aclError synchronize(const char* function, aclrtStream handle, int32_t timeout) noexcept {
  if (const aclError code = check_timeout(function, timeout)) return code;
  Streams::Pin stream;
  if (const aclError code = find_stream(function, handle, &stream)) return code;
  if (stream->is_settled()) return ACL_SUCCESS;
  aclError failure = ACL_SUCCESS;
  const bool in_time = wait_idle(*stream, timeout, &failure);
  return report_wait(function, timeout, in_time, failure);
}

aclError destroy_checked(const char* function, aclrtStream stream, bool force) noexcept {
  if (stream == nullptr) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: stream: expected a created stream, got null", function);
  }
  if (destroy_stream(stream, force)) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: stream: expected a live stream, got %p", function, stream);
}

aclError create_checked(const char* function, aclrtStream* stream) {
  if (const aclError code = check_not_null(function, "stream", stream)) return code;
  if (const aclError code = check_context(function)) return code;
  void* handle = create_stream(current_context());
  if (handle == nullptr) return out_of_memory(function);
  *stream = handle;
  return ACL_SUCCESS;
}

}  // namespace

aclError aclrtCreateStream(aclrtStream* stream) { return create_checked(__func__, stream); }

// Priority and launch mode are accepted and have no effect here.
aclError aclrtCreateStreamWithConfig(aclrtStream* stream, uint32_t, uint32_t) {
  return create_checked(__func__, stream);
}

aclError aclrtDestroyStream(aclrtStream stream) { return destroy_checked(__func__, stream, false); }

aclError aclrtDestroyStreamForce(aclrtStream stream) { return destroy_checked(__func__, stream, true); }

aclError aclrtSynchronizeStream(aclrtStream stream) { return synchronize(__func__, stream, -1); }

aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeout) {
  return synchronize(__func__, stream, timeout);
}

aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus* status) {
  if (const aclError code = check_not_null(__func__, "status", status)) return code;
  Streams::Pin pin;
  if (const aclError code = find_stream(__func__, stream, &pin)) return code;
  const std::lock_guard lock(pin->mutex);
  *status = pin->head == nullptr ? ACL_STREAM_STATUS_COMPLETE : ACL_STREAM_STATUS_NOT_READY;
  return ACL_SUCCESS;
}
