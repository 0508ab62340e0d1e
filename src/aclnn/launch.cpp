// The second phase: consume the executor, check the addresses, submit the call to the stream.
#include <cstdlib>

#include "acl/runtime.h"
#include "aclnn/executor.h"
#include "opdev/op_errno.h"

namespace mseloss::aclnn {

namespace {

constexpr int64_t kInlineElements = 1 << 15;  // up to this size a run costs less than waking the worker

// A failure on the stream's worker is reported by the next synchronisation.
aclError run_guarded(const Device& device, const Call& call, const Buffers& buffers) noexcept {
  try {
    const Status status = device.run(call, buffers);
    if (status.ok()) return ACL_SUCCESS;
    const bool memory = status.code() == Code::kOutOfMemory;
    return acl::fail(memory ? ACL_ERROR_RT_MEMORY_ALLOCATION : ACLNN_ERR_INNER, "%s", status.message());
  } catch (...) {
    return acl::fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "out of memory");
  }
}

}  // namespace

aclnnStatus launch(const OperatorInfo& info, Workspace workspace, aclOpExecutor* handle,
                   aclrtStream stream_handle) noexcept {
  const auto executor = executors.acquire(handle);
  if (!executor) return invalid_executor(info.name, handle, ACLNN_ERR_PARAM_NULLPTR);
  // If two threads use one executor at once, one retires it and the other gets an error.
  if (!executor->repeatable && !executors.retire(handle))
    return invalid_executor(info.name, handle, ACLNN_ERR_PARAM_NULLPTR);
  if (&executor->info != &info) {
    return fail(ACLNN_ERR_PARAM_INVALID, "%s: executor: expected one of this operator, got one of %s",
                info.name, executor->info.name);
  }
  if (workspace.address == nullptr && workspace.size != 0) {
    return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: workspace: expected the address of %llu bytes, got null",
                info.name, static_cast<unsigned long long>(workspace.size));
  }
  const Buffers buffers = buffers_of(*executor);
  if (!executor->checked.contains(buffers)) {
    if (const aclnnStatus code = check_addresses(*executor, buffers)) return code;
  }
  const Device* selected = device();
  if (selected == nullptr) {
    return fail(ACLNN_ERR_RUNTIME_ERROR, "%s: MSELOSS_DEVICE: expected a registered device, got \"%.64s\"",
                info.name, std::getenv("MSELOSS_DEVICE"));
  }
  acl::Streams::Pin stream;
  if (acl::find_stream(info.name, stream_handle, &stream) != ACL_SUCCESS) return ACLNN_ERR_RUNTIME_ERROR;
  const Call& call = executor->call;
  const aclError code = acl::submit(
      stream, call.plan.numel <= kInlineElements,
      [&]() noexcept { return run_guarded(*selected, call, buffers); },
      [&] { return [selected, call, buffers]() noexcept { return run_guarded(*selected, call, buffers); }; });
  if (code == ACL_SUCCESS) return ACLNN_SUCCESS;
  return fail(ACLNN_ERR_RUNTIME_ERROR, "%s: the run failed with %d%s", info.name, code,
              code == ACL_ERROR_RT_MEMORY_ALLOCATION ? ", out of memory" : "");
}

}  // namespace mseloss::aclnn
