// aclTensor: made, read and destroyed.
#include "aclnn/tensor.h"

#include <algorithm>
#include <new>

#include "acl/error.h"
#include "opdev/op_errno.h"

namespace mseloss::aclnn {

using acl::fail;

constinit Tensors tensors;

bool readable_by_strides(aclFormat format) noexcept {
  switch (format) {
    case ACL_FORMAT_NCHW:
    case ACL_FORMAT_NHWC:
    case ACL_FORMAT_ND:
    case ACL_FORMAT_HWCN:
    case ACL_FORMAT_NDHWC:
    case ACL_FORMAT_NCDHW:
    case ACL_FORMAT_NC:
    case ACL_FORMAT_NCL:
      return true;
    default:
      return false;
  }
}

namespace {

constexpr uint64_t kMostDimensions = 1 << 16;  // an operator takes 8; more than this is no rank but a mistake

aclnnStatus check_extents(const char* function, const char* name, const int64_t* extents,
                          uint64_t count) noexcept {
  if (count > kMostDimensions) {
    return fail(ACLNN_ERR_PARAM_INVALID, "%s: %sNum: expected a number of dimensions, got %llu", function,
                name, static_cast<unsigned long long>(count));
  }
  if (count != 0 && extents == nullptr) {
    return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: %s: expected %llu extents, got null", function, name,
                static_cast<unsigned long long>(count));
  }
  for (uint64_t i = 0; i < count; ++i) {
    if (extents[i] >= 0) continue;
    return fail(ACLNN_ERR_PARAM_INVALID, "%s: %s: expected extents of at least 0, got %lld", function, name,
                static_cast<long long>(extents[i]));
  }
  return ACLNN_SUCCESS;
}

void write_contiguous_strides(const int64_t* extents, uint64_t rank, int64_t* strides) noexcept {
  int64_t step = 1;
  for (uint64_t i = rank; i-- > 0;) {
    strides[i] = step;
    if (extents[i] > 1 && __builtin_mul_overflow(step, extents[i], &step)) step = INT64_MAX;
  }
}

bool has_elements(const Layout& layout) noexcept {
  return std::ranges::find(layout.shape(), 0) == layout.shape().end();
}

bool inside_storage(const Layout& layout) noexcept {
  if (!has_elements(layout)) return true;
  // Counts saturate: a storage that large ends beyond any element a view can name.
  int64_t room = 1;
  for (const int64_t extent : layout.storage()) {
    if (extent == 0) return false;
    if (__builtin_mul_overflow(room, extent, &room)) room = INT64_MAX;
  }
  int64_t lowest = layout.offset, highest = layout.offset;
  for (uint64_t i = 0; i < layout.rank; ++i) {
    int64_t reach;
    if (__builtin_mul_overflow(layout.shape()[i] - 1, layout.strides()[i], &reach)) return false;
    int64_t& end = reach < 0 ? lowest : highest;
    if (__builtin_add_overflow(end, reach, &end)) return false;
  }
  return lowest >= 0 && highest < room;
}

struct Description {
  const int64_t* shape;
  uint64_t rank;
  aclDataType dtype;
  const int64_t* strides;
  int64_t offset;
  aclFormat format;
  const int64_t* storage;
  uint64_t storage_rank;
};

aclnnStatus describe(const char* function, const Description& from, Layout* layout) noexcept {
  if (const auto code = check_extents(function, "viewDims", from.shape, from.rank); code != ACLNN_SUCCESS) {
    return code;
  }
  if (const auto code = check_extents(function, "storageDims", from.storage, from.storage_rank);
      code != ACLNN_SUCCESS) {
    return code;
  }
  layout->numbers.reset(new (std::nothrow) int64_t[2 * from.rank + from.storage_rank]);
  if (layout->numbers == nullptr) return fail(ACLNN_ERR_INNER, "%s: out of memory for a tensor", function);
  int64_t* numbers = layout->numbers.get();
  std::copy_n(from.shape, from.rank, numbers);
  if (from.strides == nullptr) {
    write_contiguous_strides(from.shape, from.rank, numbers + from.rank);
  } else {
    std::copy_n(from.strides, from.rank, numbers + from.rank);
  }
  std::copy_n(from.storage, from.storage_rank, numbers + 2 * from.rank);
  layout->rank = from.rank;
  layout->storage_rank = from.storage_rank;
  layout->dtype = from.dtype;
  layout->format = from.format;
  layout->offset = from.offset;
  layout->inside_storage = inside_storage(*layout);
  return ACLNN_SUCCESS;
}

aclnnStatus find(const char* function, const aclTensor* handle, const void* result,
                 Tensors::Pin* tensor) noexcept {
  if (handle == nullptr) return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: tensor: got null", function);
  if (result == nullptr) return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: result: got null", function);
  *tensor = tensors.acquire(handle);
  if (*tensor) return ACLNN_SUCCESS;
  return fail(ACLNN_ERR_PARAM_INVALID, "%s: tensor: expected a live tensor, got %p", function,
              static_cast<const void*>(handle));
}

aclnnStatus copy_out(const char* function, std::span<const int64_t> numbers, int64_t** out,
                     uint64_t* count) noexcept {
  if (count == nullptr) return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: number: got null", function);
  auto* copy = new (std::nothrow) int64_t[numbers.size()];
  if (copy == nullptr) return fail(ACLNN_ERR_INNER, "%s: out of memory", function);
  std::ranges::copy(numbers, copy);
  *out = copy;
  *count = numbers.size();
  return ACLNN_SUCCESS;
}

}  // namespace
}  // namespace mseloss::aclnn

using namespace mseloss::aclnn;

aclTensor* aclCreateTensor(const int64_t* viewDims, uint64_t viewDimsNum, aclDataType dataType,
                           const int64_t* stride, int64_t offset, aclFormat format,
                           const int64_t* storageDims, uint64_t storageDimsNum, void* tensorData) {
  Layout layout;
  if (describe(__func__,
               {viewDims, viewDimsNum, dataType, stride, offset, format, storageDims, storageDimsNum},
               &layout) != ACLNN_SUCCESS) {
    return nullptr;
  }
  void* handle = tensors.insert(std::move(layout), tensorData);
  if (handle == nullptr) fail(ACLNN_ERR_INNER, "%s: out of memory for a tensor", __func__);
  return static_cast<aclTensor*>(handle);
}

aclnnStatus aclDestroyTensor(const aclTensor* tensor) {
  if (tensor == nullptr || tensors.retire(tensor)) return ACLNN_SUCCESS;
  return fail(ACLNN_ERR_PARAM_INVALID, "%s: tensor: expected a live tensor or null, got %p", __func__,
              static_cast<const void*>(tensor));
}

aclnnStatus aclInitTensor(aclTensor* tensor, const int64_t* viewDims, uint64_t viewDimsNum,
                          aclDataType dataType, const int64_t* stride, int64_t offset, aclFormat format,
                          const int64_t* storageDims, uint64_t storageDimsNum, void* tensorData) {
  Tensors::Pin pin;
  if (const auto code = find(__func__, tensor, tensor, &pin); code != ACLNN_SUCCESS) return code;
  Layout layout;
  if (const auto code = describe(
          __func__, {viewDims, viewDimsNum, dataType, stride, offset, format, storageDims, storageDimsNum},
          &layout);
      code != ACLNN_SUCCESS) {
    return code;
  }
  pin->layout = std::move(layout);
  pin->data = tensorData;
  return ACLNN_SUCCESS;
}

aclnnStatus aclGetViewShape(const aclTensor* tensor, int64_t** viewDims, uint64_t* viewDimsNum) {
  Tensors::Pin pin;
  if (const auto code = find(__func__, tensor, viewDims, &pin); code != ACLNN_SUCCESS) return code;
  return copy_out(__func__, pin->layout.shape(), viewDims, viewDimsNum);
}

aclnnStatus aclGetStorageShape(const aclTensor* tensor, int64_t** storageDims, uint64_t* storageDimsNum) {
  Tensors::Pin pin;
  if (const auto code = find(__func__, tensor, storageDims, &pin); code != ACLNN_SUCCESS) return code;
  return copy_out(__func__, pin->layout.storage(), storageDims, storageDimsNum);
}

aclnnStatus aclGetViewStrides(const aclTensor* tensor, int64_t** stridesValue, uint64_t* stridesNum) {
  Tensors::Pin pin;
  if (const auto code = find(__func__, tensor, stridesValue, &pin); code != ACLNN_SUCCESS) return code;
  return copy_out(__func__, pin->layout.strides(), stridesValue, stridesNum);
}

aclnnStatus aclGetViewOffset(const aclTensor* tensor, int64_t* offset) {
  Tensors::Pin pin;
  if (const auto code = find(__func__, tensor, offset, &pin); code != ACLNN_SUCCESS) return code;
  *offset = pin->layout.offset;
  return ACLNN_SUCCESS;
}

aclnnStatus aclGetFormat(const aclTensor* tensor, aclFormat* format) {
  Tensors::Pin pin;
  if (const auto code = find(__func__, tensor, format, &pin); code != ACLNN_SUCCESS) return code;
  *format = pin->layout.format;
  return ACLNN_SUCCESS;
}

aclnnStatus aclGetDataType(const aclTensor* tensor, aclDataType* dataType) {
  Tensors::Pin pin;
  if (const auto code = find(__func__, tensor, dataType, &pin); code != ACLNN_SUCCESS) return code;
  *dataType = pin->layout.dtype;
  return ACLNN_SUCCESS;
}

aclnnStatus aclSetRawTensorAddr(aclTensor* tensor, void* addr) {
  Tensors::Pin pin;
  if (const auto code = find(__func__, tensor, tensor, &pin); code != ACLNN_SUCCESS) return code;
  pin->data = addr;
  return ACLNN_SUCCESS;
}

aclnnStatus aclGetRawTensorAddr(const aclTensor* tensor, void** addr) {
  Tensors::Pin pin;
  if (const auto code = find(__func__, tensor, addr, &pin); code != ACLNN_SUCCESS) return code;
  *addr = pin->data;
  return ACLNN_SUCCESS;
}
