// The aclTensor functions: create, query and destroy.
#include "aclnn/tensor.h"

#include <algorithm>
#include <new>

#include "acl/error.h"
#include "opdev/op_errno.h"

namespace mseloss::aclnn {

constinit Tensors tensors;

namespace {

constexpr uint64_t kMaxDimensions = 1 << 16;  // above this a rank is a caller's error; the operators accept 8

aclnnStatus check_extents(const char* function, const char* name, const int64_t* extents,
                          uint64_t count) noexcept {
  if (count > kMaxDimensions) {
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

bool is_empty(const TensorDescriptor& descriptor) noexcept {
  return std::ranges::find(descriptor.shape(), 0) != descriptor.shape().end();
}

bool inside_storage(const TensorDescriptor& descriptor) noexcept {
  if (is_empty(descriptor)) return true;
  // The count saturates: no view can address an element outside a storage that large.
  int64_t storage_count = 1;
  for (const int64_t extent : descriptor.storage()) {
    if (extent == 0) return false;
    if (__builtin_mul_overflow(storage_count, extent, &storage_count)) storage_count = INT64_MAX;
  }
  int64_t lowest = descriptor.offset, highest = descriptor.offset;
  for (uint64_t i = 0; i < descriptor.rank; ++i) {
    int64_t reach;
    if (__builtin_mul_overflow(descriptor.shape()[i] - 1, descriptor.strides()[i], &reach)) return false;
    int64_t& end = reach < 0 ? lowest : highest;
    if (__builtin_add_overflow(end, reach, &end)) return false;
  }
  constexpr int64_t kMaxElement = INT64_MAX / 16;  // its offset in bytes fits, whatever the dtype
  return lowest >= 0 && highest < std::min(storage_count, kMaxElement);
}

// If the storage has the view's shape, the format is only a label, as in CANN.
bool strides_describe(const TensorDescriptor& descriptor) noexcept {
  constexpr aclFormat kStrided[] = {ACL_FORMAT_UNDEFINED, ACL_FORMAT_NCHW, ACL_FORMAT_NHWC,
                                    ACL_FORMAT_ND,        ACL_FORMAT_HWCN, ACL_FORMAT_NDHWC,
                                    ACL_FORMAT_NCDHW,     ACL_FORMAT_NC,   ACL_FORMAT_NCL};
  return std::ranges::find(kStrided, descriptor.format) != std::end(kStrided) ||
         std::ranges::equal(descriptor.shape(), descriptor.storage());
}

aclnnStatus fill_descriptor(const char* function, const int64_t* shape, uint64_t rank, aclDataType dtype,
                            const int64_t* strides, int64_t offset, aclFormat format, const int64_t* storage,
                            uint64_t storage_rank, TensorDescriptor* descriptor) noexcept {
  if (const aclnnStatus code = check_extents(function, "viewDims", shape, rank)) return code;
  if (const aclnnStatus code = check_extents(function, "storageDims", storage, storage_rank)) {
    return code;
  }
  descriptor->values.reset(new (std::nothrow) int64_t[2 * rank + storage_rank]);
  if (descriptor->values == nullptr) return fail(ACLNN_ERR_INNER, "%s: out of memory for a tensor", function);
  int64_t* values = descriptor->values.get();
  std::copy_n(shape, rank, values);
  if (strides == nullptr) {
    write_contiguous_strides(shape, rank, values + rank);
  } else {
    std::copy_n(strides, rank, values + rank);
  }
  std::copy_n(storage, storage_rank, values + 2 * rank);
  descriptor->rank = rank;
  descriptor->storage_rank = storage_rank;
  descriptor->dtype = dtype;
  descriptor->format = format;
  descriptor->offset = offset;
  descriptor->inside_storage = inside_storage(*descriptor);
  descriptor->strides_describe = strides_describe(*descriptor);
  // Any offset is allowed without elements, and an operator refuses one outside the storage.
  const bool addressed = descriptor->inside_storage && !is_empty(*descriptor);
  descriptor->first_byte = addressed ? offset * static_cast<int64_t>(aclDataTypeSize(dtype)) : 0;
  return ACLNN_SUCCESS;
}

// Pins the tensor. `result` is the caller's output pointer, checked for null; functions without one pass the
// handle.
aclnnStatus acquire_tensor(const char* function, const aclTensor* handle, const void* result,
                           Tensors::Pin* tensor) noexcept {
  if (handle == nullptr) return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: tensor: got null", function);
  if (result == nullptr) return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: result: got null", function);
  *tensor = tensors.acquire(handle);
  if (*tensor) return ACLNN_SUCCESS;
  return fail(ACLNN_ERR_PARAM_INVALID, "%s: tensor: expected a live tensor, got %p", function,
              static_cast<const void*>(handle));
}

template <class T, class Get>
aclnnStatus read(const char* function, const aclTensor* handle, T* result, Get get) noexcept {
  Tensors::Pin tensor;
  if (const aclnnStatus code = acquire_tensor(function, handle, result, &tensor)) return code;
  *result = get(*tensor);
  return ACLNN_SUCCESS;
}

// Returns a copy of shape(), strides() or storage() that the caller deletes.
aclnnStatus copy_values(const char* function, const aclTensor* handle,
                        std::span<const int64_t> (TensorDescriptor::*get)() const, int64_t** out,
                        uint64_t* count) noexcept {
  Tensors::Pin tensor;
  if (const aclnnStatus code = acquire_tensor(function, handle, out, &tensor)) return code;
  if (count == nullptr) return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: number: got null", function);
  const std::span<const int64_t> values = (tensor->descriptor.*get)();
  auto* copy = new (std::nothrow) int64_t[values.size()];
  if (copy == nullptr) return fail(ACLNN_ERR_INNER, "%s: out of memory", function);
  std::ranges::copy(values, copy);
  *out = copy;
  *count = values.size();
  return ACLNN_SUCCESS;
}

}  // namespace
}  // namespace mseloss::aclnn

using namespace mseloss::aclnn;

aclTensor* aclCreateTensor(const int64_t* viewDims, uint64_t viewDimsNum, aclDataType dataType,
                           const int64_t* stride, int64_t offset, aclFormat format,
                           const int64_t* storageDims, uint64_t storageDimsNum, void* tensorData) {
  TensorDescriptor descriptor;
  if (fill_descriptor(__func__, viewDims, viewDimsNum, dataType, stride, offset, format, storageDims,
                      storageDimsNum, &descriptor)) {
    return nullptr;
  }
  void* handle = tensors.insert(std::move(descriptor), tensorData);
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
  if (const aclnnStatus code = acquire_tensor(__func__, tensor, tensor, &pin)) return code;
  TensorDescriptor descriptor;
  if (const aclnnStatus code = fill_descriptor(__func__, viewDims, viewDimsNum, dataType, stride, offset,
                                               format, storageDims, storageDimsNum, &descriptor)) {
    return code;
  }
  pin->descriptor = std::move(descriptor);
  pin->data.store(tensorData, std::memory_order_release);
  return ACLNN_SUCCESS;
}

aclnnStatus aclGetViewShape(const aclTensor* tensor, int64_t** viewDims, uint64_t* viewDimsNum) {
  return copy_values(__func__, tensor, &TensorDescriptor::shape, viewDims, viewDimsNum);
}

aclnnStatus aclGetStorageShape(const aclTensor* tensor, int64_t** storageDims, uint64_t* storageDimsNum) {
  return copy_values(__func__, tensor, &TensorDescriptor::storage, storageDims, storageDimsNum);
}

aclnnStatus aclGetViewStrides(const aclTensor* tensor, int64_t** stridesValue, uint64_t* stridesNum) {
  return copy_values(__func__, tensor, &TensorDescriptor::strides, stridesValue, stridesNum);
}

aclnnStatus aclGetViewOffset(const aclTensor* tensor, int64_t* offset) {
  return read(__func__, tensor, offset, [](const Tensor& t) { return t.descriptor.offset; });
}

aclnnStatus aclGetFormat(const aclTensor* tensor, aclFormat* format) {
  return read(__func__, tensor, format, [](const Tensor& t) { return t.descriptor.format; });
}

aclnnStatus aclGetDataType(const aclTensor* tensor, aclDataType* dataType) {
  return read(__func__, tensor, dataType, [](const Tensor& t) { return t.descriptor.dtype; });
}

aclnnStatus aclSetRawTensorAddr(aclTensor* tensor, void* addr) {
  Tensors::Pin pin;
  if (const aclnnStatus code = acquire_tensor(__func__, tensor, tensor, &pin)) return code;
  pin->data.store(addr, std::memory_order_release);
  return ACLNN_SUCCESS;
}

aclnnStatus aclGetRawTensorAddr(const aclTensor* tensor, void** addr) {
  return read(__func__, tensor, addr, [](const Tensor& t) { return t.data.load(); });
}
