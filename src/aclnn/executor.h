// The object behind an aclOpExecutor handle: a plan and the addresses to run it on.
#pragma once

#include <atomic>
#include <cstdint>

#include "acl/handle.h"
#include "aclnn/acl_meta.h"
#include "aclnn/device.h"

namespace mseloss::aclnn {

struct OperatorInfo {
  const char* name;
  Op op;
  int inputs;  // number of inputs; they precede the outputs
  int operands;
  const char* names[4];
  Operand positions[4];
  Names core;  // the same names, in the form the plan takes
};

// Holds no reference to an aclTensor: tensors may be destroyed any time after the first phase.
struct Executor {
  explicit Executor(const OperatorInfo& operator_info) noexcept : info(operator_info) {}
  const OperatorInfo& info;
  Call call;                           // written by the first phase, then constant
  std::atomic<void*> storage[4] = {};  // address of each operand's storage, in the first phase's order
  int64_t offset[4] = {};              // bytes from the storage to element (0, ..., 0)
  std::atomic<bool> repeatable{false};
  std::atomic<bool> addresses_checked{false};
};

using Executors = acl::HandleTable<Executor, 5>;
extern constinit Executors executors;

Buffers buffers_of(const Executor& executor) noexcept;
// Checks for null pointers and overlap, once per set of addresses.
aclnnStatus check_addresses(Executor& executor, const Buffers& buffers) noexcept;

// The two phases of every operator. `operands` are in the order of the first phase's parameters.
aclnnStatus prepare(const OperatorInfo& info, const aclTensor* const* operands, int64_t reduction,
                    uint64_t* workspace_size, aclOpExecutor** executor) noexcept;
aclnnStatus launch(const OperatorInfo& info, aclOpExecutor* executor, aclrtStream stream) noexcept;

// The error for a handle that is null, consumed or destroyed.
aclnnStatus invalid_executor(const char* function, const void* executor) noexcept;

// Converts a core Status to an aclnn code and records its message.
aclnnStatus translate(const OperatorInfo& info, const Status& status) noexcept;

}  // namespace mseloss::aclnn
