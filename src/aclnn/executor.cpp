// aclOpExecutor: operand addresses and lifetime.
#include "aclnn/executor.h"

#include <algorithm>

#include "acl/error.h"
#include "aclnn/aclnn_base.h"
#include "aclnn/values.h"
#include "opdev/op_errno.h"

namespace mseloss::aclnn {

constinit Executors executors;

bool CheckedAddresses::contains(const Buffers& buffers) noexcept {
  if (!try_lock()) return false;
  const bool same = filled_ && std::ranges::equal(buffers.data, buffers_.data);
  unlock();
  return same;
}

void CheckedAddresses::store(const Buffers& buffers) noexcept {
  if (!try_lock()) return;
  buffers_ = buffers;
  filled_ = true;
  unlock();
}

Buffers buffers_of(const Executor& executor) noexcept {
  Buffers buffers;
  for (int i = 0; i < executor.info.operands; ++i) {
    char* storage = static_cast<char*>(executor.tensors[i]->data.load(std::memory_order_acquire));
    if (storage != nullptr) buffers.data[executor.info.positions[i]] = storage + executor.offset[i];
  }
  buffers.data[kLossOut] = buffers.data[kOut];  // a sliced plan writes its loss to kLossOut
  return buffers;
}

aclnnStatus check_addresses(Executor& executor, const Buffers& buffers) noexcept {
  const Status status = check_buffers(executor.call.plan, buffers, executor.info.names);
  if (status.ok()) executor.checked.store(buffers);
  return translate(executor.info, status);
}

aclnnStatus translate(const OperatorInfo& info, const Status& status) noexcept {
  if (status.ok()) return ACLNN_SUCCESS;
  const aclnnStatus code = status.code() == Code::kNullPointer   ? ACLNN_ERR_PARAM_NULLPTR
                           : status.code() == Code::kOutOfMemory ? ACLNN_ERR_INNER
                                                                 : ACLNN_ERR_PARAM_INVALID;
  return fail(code, "%s: %s", info.name, status.message());
}

aclnnStatus invalid_executor(const char* function, const void* executor, aclnnStatus null_code) noexcept {
  if (executor == nullptr) {
    return fail(null_code, "%s: executor: expected an executor, got null", function);
  }
  return fail(
      ACLNN_ERR_PARAM_INVALID,
      "%s: executor: expected a live executor from a first phase, got a consumed or invalid handle %p",
      function, executor);
}

namespace {

enum class OperandGroup { kInputs, kOutputs, kAll };

aclnnStatus check_index(const char* function, const OperatorInfo& info, size_t index,
                        OperandGroup group) noexcept {
  const size_t first = group == OperandGroup::kOutputs ? info.inputs : 0;
  const size_t last = group == OperandGroup::kInputs ? info.inputs : info.operands;
  if (index < last - first) return ACLNN_SUCCESS;
  return fail(ACLNN_ERR_PARAM_INVALID, "%s: index: expected less than %zu for %s, got %zu", function,
              last - first, info.name, index);
}

// As in CANN the tensor decides which operands receive the address, in this executor and in every other one
// that was made with it; the index is only checked.
aclnnStatus set_address(const char* function, aclOpExecutor* handle, size_t index, const aclTensor* tensor,
                        void* address, OperandGroup group) noexcept {
  const auto executor = executors.acquire(handle);
  if (!executor) return invalid_executor(function, handle, ACLNN_ERR_INNER_NULLPTR);
  if (tensor == nullptr) {
    return fail(ACLNN_ERR_INNER_NULLPTR, "%s: tensor: expected a tensor, got null", function);
  }
  const auto pin = tensors.acquire(tensor);
  if (!pin) {
    return fail(ACLNN_ERR_PARAM_INVALID, "%s: tensor: expected a live tensor, got %p", function,
                static_cast<const void*>(tensor));
  }
  if (const aclnnStatus code = check_index(function, executor->info, index, group)) return code;
  pin->data.store(address, std::memory_order_release);
  return ACLNN_SUCCESS;
}

aclnnStatus set_list_address(const char* function, aclOpExecutor* handle, size_t index, size_t position,
                             const aclTensorList* list, void* address, OperandGroup group) noexcept {
  if (list == nullptr) {
    return fail(ACLNN_ERR_INNER_NULLPTR, "%s: tensors: expected a list, got null", function);
  }
  const aclTensor* tensor = nullptr;
  if (const aclnnStatus code = element_of(function, list, position, &tensor)) return code;
  return set_address(function, handle, index, tensor, address, group);
}

}  // namespace

}  // namespace mseloss::aclnn

using namespace mseloss::aclnn;

aclnnStatus aclSetAclOpExecutorRepeatable(aclOpExecutor* executor) {
  const auto pin = executors.acquire(executor);
  if (!pin) return invalid_executor(__func__, executor, ACLNN_ERR_INNER_NULLPTR);
  pin->repeatable = true;
  return ACLNN_SUCCESS;
}

aclnnStatus aclDestroyAclOpExecutor(aclOpExecutor* executor) {
  return executors.retire(executor) ? ACLNN_SUCCESS
                                    : invalid_executor(__func__, executor, ACLNN_ERR_INNER_NULLPTR);
}

// CANN exports every setter with both spellings of the prefix.
#define MSELOSS_ADDRESS_SETTERS(Prefix, Name, group)                                                         \
  aclnnStatus Prefix##Set##Name##TensorAddr(aclOpExecutor* executor, const size_t index, aclTensor* tensor,  \
                                            void* addr) {                                                    \
    return set_address(__func__, executor, index, tensor, addr, OperandGroup::group);                        \
  }                                                                                                          \
  aclnnStatus Prefix##SetDynamic##Name##TensorAddr(aclOpExecutor* executor, size_t irIndex,                  \
                                                   const size_t relativeIndex, aclTensorList* tensors,       \
                                                   void* addr) {                                             \
    return set_list_address(__func__, executor, irIndex, relativeIndex, tensors, addr, OperandGroup::group); \
  }
MSELOSS_ADDRESS_SETTERS(acl, Input, kInputs)
MSELOSS_ADDRESS_SETTERS(acl, Output, kOutputs)
MSELOSS_ADDRESS_SETTERS(acl, , kAll)
MSELOSS_ADDRESS_SETTERS(Acl, Input, kInputs)
MSELOSS_ADDRESS_SETTERS(Acl, Output, kOutputs)
MSELOSS_ADDRESS_SETTERS(Acl, , kAll)
#undef MSELOSS_ADDRESS_SETTERS

aclnnStatus aclnnInit(const char*) { return ACLNN_SUCCESS; }
aclnnStatus aclnnFinalize(void) { return ACLNN_SUCCESS; }
