// aclOpExecutor: operand addresses and lifetime.
#include "aclnn/executor.h"

#include "acl/error.h"
#include "aclnn/aclnn_base.h"
#include "aclnn/tensor.h"
#include "opdev/op_errno.h"

namespace mseloss::aclnn {

using acl::fail;

constinit Executors executors;

Buffers buffers_of(const Executor& executor) noexcept {
  Buffers buffers;
  for (int i = 0; i < executor.info.operands; ++i) {
    char* storage = static_cast<char*>(executor.storage[i].load(std::memory_order_relaxed));
    if (storage != nullptr) buffers.data[executor.info.positions[i]] = storage + executor.offset[i];
  }
  return buffers;
}

aclnnStatus check_addresses(Executor& executor, const Buffers& buffers) noexcept {
  if (executor.addresses_checked.load(std::memory_order_relaxed)) return ACLNN_SUCCESS;
  const Status status = check_buffers(executor.call.plan, buffers, executor.info.core);
  executor.addresses_checked.store(status.ok(), std::memory_order_relaxed);
  return translate(executor.info, status);
}

aclnnStatus translate(const OperatorInfo& info, const Status& status) noexcept {
  if (status.ok()) return ACLNN_SUCCESS;
  const aclnnStatus code = status.code() == Code::kNullPointer   ? ACLNN_ERR_PARAM_NULLPTR
                           : status.code() == Code::kOutOfMemory ? ACLNN_ERR_INNER
                                                                 : ACLNN_ERR_PARAM_INVALID;
  return fail(code, "%s: %s", info.name, status.message());
}

aclnnStatus invalid_executor(const char* function, const void* executor) noexcept {
  if (executor == nullptr) {
    return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: executor: expected an executor, got null", function);
  }
  return fail(ACLNN_ERR_PARAM_INVALID,
              "%s: executor: expected one that a first phase made and nothing has consumed yet, got %p",
              function, executor);
}

namespace {

enum class OperandGroup { kInputs, kOutputs, kAll };

aclnnStatus set_address(const char* function, aclOpExecutor* handle, size_t index, const aclTensor* tensor,
                        void* address, OperandGroup group) noexcept {
  const auto executor = executors.acquire(handle);
  if (!executor) return invalid_executor(function, handle);
  if (tensor == nullptr) {
    return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: tensor: expected a tensor, got null", function);
  }
  if (!tensors.acquire(tensor)) {
    return fail(ACLNN_ERR_PARAM_INVALID, "%s: tensor: expected a live tensor, got %p", function,
                static_cast<const void*>(tensor));
  }
  const auto& info = executor->info;
  const size_t first = group == OperandGroup::kOutputs ? info.inputs : 0;
  const size_t last = group == OperandGroup::kInputs ? info.inputs : info.operands;
  if (index >= last - first) {
    return fail(ACLNN_ERR_PARAM_INVALID, "%s: index: expected less than %zu for %s, got %zu", function,
                last - first, info.name, index);
  }
  executor->addresses_checked.store(false, std::memory_order_relaxed);
  executor->storage[first + index].store(address, std::memory_order_relaxed);
  return ACLNN_SUCCESS;
}

}  // namespace

}  // namespace mseloss::aclnn

using namespace mseloss::aclnn;

aclnnStatus aclSetAclOpExecutorRepeatable(aclOpExecutor* executor) {
  const auto pin = executors.acquire(executor);
  if (!pin) return invalid_executor(__func__, executor);
  pin->repeatable = true;
  return ACLNN_SUCCESS;
}

aclnnStatus aclDestroyAclOpExecutor(aclOpExecutor* executor) {
  return executors.retire(executor) ? ACLNN_SUCCESS : invalid_executor(__func__, executor);
}

aclnnStatus aclSetInputTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor,
                                  void* addr) {
  return set_address(__func__, executor, index, tensor, addr, OperandGroup::kInputs);
}
aclnnStatus aclSetOutputTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor,
                                   void* addr) {
  return set_address(__func__, executor, index, tensor, addr, OperandGroup::kOutputs);
}
aclnnStatus aclSetTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr) {
  return set_address(__func__, executor, index, tensor, addr, OperandGroup::kAll);
}
aclnnStatus AclSetInputTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor,
                                  void* addr) {
  return set_address(__func__, executor, index, tensor, addr, OperandGroup::kInputs);
}
aclnnStatus AclSetOutputTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor,
                                   void* addr) {
  return set_address(__func__, executor, index, tensor, addr, OperandGroup::kOutputs);
}
aclnnStatus AclSetTensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor, void* addr) {
  return set_address(__func__, executor, index, tensor, addr, OperandGroup::kAll);
}

aclnnStatus aclnnInit(const char*) { return ACLNN_SUCCESS; }
aclnnStatus aclnnFinalize(void) { return ACLNN_SUCCESS; }
