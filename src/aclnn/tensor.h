// The object behind an aclTensor handle.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "acl/handle.h"
#include "aclnn/acl_meta.h"

namespace mseloss::aclnn {

struct TensorDescriptor {
  std::unique_ptr<int64_t[]> values;  // view extents, strides, storage extents, in this order
  uint64_t rank = 0, storage_rank = 0;
  aclDataType dtype = ACL_DT_UNDEFINED;
  aclFormat format = ACL_FORMAT_UNDEFINED;
  int64_t offset = 0;
  // What every operator asks about the above, decided once.
  bool inside_storage = false;    // every element of the view lies in the storage
  bool strides_describe = false;  // false for a private format, whose blocks strides cannot describe
  int64_t first_byte = 0;         // bytes from the storage to element (0, ..., 0); 0 without elements

  std::span<const int64_t> shape() const { return {values.get(), rank}; }
  std::span<const int64_t> strides() const { return {values.get() + rank, rank}; }
  std::span<const int64_t> storage() const { return {values.get() + 2 * rank, storage_rank}; }
};

struct Tensor {
  Tensor(TensorDescriptor d, void* address) noexcept : descriptor(std::move(d)), data(address) {}
  TensorDescriptor descriptor;
  std::atomic<void*> data;  // start of the storage
};

using Tensors = acl::HandleTable<Tensor, 4>;
extern constinit Tensors tensors;

}  // namespace mseloss::aclnn
