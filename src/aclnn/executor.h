// The object behind an aclOpExecutor handle: a plan and the tensors to run it on.
#pragma once

#include <atomic>
#include <cstdint>

#include "acl/handle.h"
#include "aclnn/acl_meta.h"
#include "aclnn/device.h"
#include "aclnn/tensor.h"

namespace mseloss::aclnn {

struct OperatorInfo {
  const char* name;
  Op op;
  bool reduces_first_dimension;  // mean and sum reduce dimension 0 only
  int inputs;                    // number of inputs; they precede the outputs
  int operands;
  Operand positions[4];  // of the parameters
  Names names;
};

// The name of parameter i.
inline const char* name_of(const OperatorInfo& info, int i) { return info.names.of[info.positions[i]]; }

// The latest set of addresses that passed the checks. A set is compared and stored as a whole, so a setter on
// another thread cannot make an unchecked address pass. A record in use by another thread counts as empty.
class CheckedAddresses {
 public:
  bool contains(const Buffers& buffers) noexcept;
  void store(const Buffers& buffers) noexcept;

 private:
  bool try_lock() noexcept { return !locked_.exchange(true, std::memory_order_acquire); }
  void unlock() noexcept { locked_.store(false, std::memory_order_release); }

  std::atomic<bool> locked_{false};
  bool filled_ = false;
  Buffers buffers_;
};

struct Executor {
  explicit Executor(const OperatorInfo& operator_info) noexcept : info(operator_info) {}
  const OperatorInfo& info;
  Call call;  // written by the first phase, then constant
  // In the first phase's order. The pins keep the tensors' addresses readable after aclDestroyTensor.
  Tensors::Pin tensors[4];
  int64_t offset[4] = {};  // bytes from the storage to element (0, ..., 0)
  std::atomic<bool> repeatable{false};
  CheckedAddresses checked;
};

using Executors = acl::HandleTable<Executor, 5>;
extern constinit Executors executors;

// The operands' current addresses.
Buffers buffers_of(const Executor& executor) noexcept;
// Checks for null pointers and overlap. Addresses that pass are added to executor.checked.
aclnnStatus check_addresses(Executor& executor, const Buffers& buffers) noexcept;

struct Workspace {
  const void* address;
  uint64_t size;
};

// The two phases of every operator. `operands` are in the order of the first phase's parameters.
aclnnStatus prepare(const OperatorInfo& info, const aclTensor* const* operands, int64_t reduction,
                    uint64_t* workspace_size, aclOpExecutor** executor) noexcept;
aclnnStatus launch(const OperatorInfo& info, Workspace workspace, aclOpExecutor* executor,
                   aclrtStream stream) noexcept;

// The error for a handle that is null (null_code), consumed or destroyed. CANN's code for null is 161001 in
// the second phase and 561103 elsewhere.
aclnnStatus invalid_executor(const char* function, const void* executor, aclnnStatus null_code) noexcept;

// Converts a core Status to an aclnn code and records its message.
aclnnStatus translate(const OperatorInfo& info, const Status& status) noexcept;

}  // namespace mseloss::aclnn
