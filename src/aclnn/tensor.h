// What an aclTensor handle stands for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "acl/handle.h"
#include "aclnn/acl_meta.h"

namespace mseloss::aclnn {

struct Layout {
  std::unique_ptr<int64_t[]> numbers;  // view extents, strides, storage extents
  uint64_t rank = 0, storage_rank = 0;
  aclDataType dtype = ACL_DT_UNDEFINED;
  aclFormat format = ACL_FORMAT_UNDEFINED;
  int64_t offset = 0;
  bool inside_storage = false;  // every element of the view is one of the storage

  std::span<const int64_t> shape() const { return {numbers.get(), rank}; }
  std::span<const int64_t> strides() const { return {numbers.get() + rank, rank}; }
  std::span<const int64_t> storage() const { return {numbers.get() + 2 * rank, storage_rank}; }
};

struct Tensor {
  Tensor(Layout l, void* address) noexcept : layout(std::move(l)), data(address) {}
  Layout layout;
  std::atomic<void*> data;  // of the storage
};

using Tensors = acl::HandleTable<Tensor, 4>;
extern constinit Tensors tensors;

bool readable_by_strides(aclFormat format) noexcept;

}  // namespace mseloss::aclnn
