#include "aclnn/list.h"

#include <cstring>
#include <memory>
#include <new>

#include "acl/error.h"
#include "acl/handle.h"
#include "aclnn/tensor.h"
#include "opdev/op_errno.h"

namespace mseloss::aclnn {
namespace {

enum class Kind : uint8_t {
  kScalar,
  kIntArray,
  kFloatArray,
  kBoolArray,
  kFp16Array,
  kBf16Array,
  kTensorList,
  kScalarList,
};

// A copy of the caller's elements. One table holds all kinds, so that a handle of another kind is detected.
struct Values {
  Values(Kind k, std::unique_ptr<unsigned char[]> b, uint64_t n) noexcept
      : kind(k), bytes(std::move(b)), size(n) {}
  const Kind kind;
  const std::unique_ptr<unsigned char[]> bytes;
  const uint64_t size;  // elements

  template <class T>
  T at(uint64_t i) const {
    T value;
    std::memcpy(&value, bytes.get() + i * sizeof(T), sizeof(T));
    return value;
  }
};
using ValuesTable = acl::HandleTable<Values, 6>;
constinit ValuesTable values;

// Null on failure.
void* create(const char* function, Kind kind, const void* elements, uint64_t count,
             size_t element_size) noexcept {
  if (elements == nullptr && count != 0) {
    fail(ACLNN_ERR_PARAM_NULLPTR, "%s: value: expected %llu elements, got null", function,
         static_cast<unsigned long long>(count));
    return nullptr;
  }
  size_t size;
  void* handle = nullptr;
  if (!__builtin_mul_overflow(count, element_size, &size) && size <= PTRDIFF_MAX) {
    std::unique_ptr<unsigned char[]> bytes(new (std::nothrow) unsigned char[size]);
    if (bytes != nullptr) {
      if (size != 0) std::memcpy(bytes.get(), elements, size);
      handle = values.insert(kind, std::move(bytes), count);
    }
  }
  if (handle == nullptr) {
    fail(ACLNN_ERR_INNER, "%s: out of memory for %llu elements", function,
         static_cast<unsigned long long>(count));
  }
  return handle;
}

ValuesTable::Pin acquire(const void* handle, Kind kind) noexcept {
  auto pin = values.acquire(handle);
  if (pin && pin->kind != kind) return {};
  return pin;
}

aclnnStatus invalid_handle(const char* function, const void* handle) noexcept {
  return fail(ACLNN_ERR_PARAM_INVALID, "%s: expected a live handle of this type, got %p", function, handle);
}

aclnnStatus destroy(const char* function, const void* handle, Kind kind) noexcept {
  if (handle == nullptr) return ACLNN_SUCCESS;
  const auto pin = acquire(handle, kind);
  return pin && values.retire(handle) ? ACLNN_SUCCESS : invalid_handle(function, handle);
}

// As in CANN a list owns its elements: destroys them with it.
template <class Element, class Destroy>
aclnnStatus destroy_list(const char* function, const void* handle, Kind kind,
                         Destroy destroy_element) noexcept {
  if (handle == nullptr) return ACLNN_SUCCESS;
  const auto pin = acquire(handle, kind);
  if (!pin || !values.retire(handle)) return invalid_handle(function, handle);
  aclnnStatus first_failure = ACLNN_SUCCESS;
  for (uint64_t i = 0; i < pin->size; ++i) {
    const aclnnStatus code = destroy_element(pin->at<Element>(i));
    if (first_failure == ACLNN_SUCCESS) first_failure = code;
  }
  return first_failure;
}

aclnnStatus get_size(const char* function, const void* handle, Kind kind, uint64_t* size) noexcept {
  if (handle == nullptr || size == nullptr) {
    return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: %s: got null", function, handle == nullptr ? "array" : "size");
  }
  const auto pin = acquire(handle, kind);
  if (!pin) return invalid_handle(function, handle);
  *size = pin->size;
  return ACLNN_SUCCESS;
}

}  // namespace

aclnnStatus element_of(const char* function, const aclTensorList* list, size_t position,
                       const aclTensor** element) noexcept {
  const auto pin = acquire(list, Kind::kTensorList);
  if (!pin) return invalid_handle(function, list);
  if (position >= pin->size) {
    return fail(ACLNN_ERR_PARAM_INVALID,
                "%s: relativeIndex: expected less than the list's size, %llu, got %zu", function,
                static_cast<unsigned long long>(pin->size), position);
  }
  *element = pin->at<const aclTensor*>(position);
  return ACLNN_SUCCESS;
}

}  // namespace mseloss::aclnn

using namespace mseloss::aclnn;

aclScalar* aclCreateScalar(void* value, aclDataType dataType) {
  const size_t size = aclDataTypeSize(dataType);
  if (size == 0) {
    fail(ACLNN_ERR_PARAM_INVALID, "%s: dataType: expected a type of at least one byte, got aclDataType %d",
         __func__, static_cast<int>(dataType));
    return nullptr;
  }
  return static_cast<aclScalar*>(create(__func__, Kind::kScalar, value, 1, size));
}
aclnnStatus aclDestroyScalar(const aclScalar* scalar) { return destroy(__func__, scalar, Kind::kScalar); }

aclIntArray* aclCreateIntArray(const int64_t* value, uint64_t size) {
  return static_cast<aclIntArray*>(create(__func__, Kind::kIntArray, value, size, sizeof(*value)));
}
aclnnStatus aclDestroyIntArray(const aclIntArray* array) { return destroy(__func__, array, Kind::kIntArray); }
aclnnStatus aclGetIntArraySize(const aclIntArray* array, uint64_t* size) {
  return get_size(__func__, array, Kind::kIntArray, size);
}

aclFloatArray* aclCreateFloatArray(const float* value, uint64_t size) {
  return static_cast<aclFloatArray*>(create(__func__, Kind::kFloatArray, value, size, sizeof(*value)));
}
aclnnStatus aclDestroyFloatArray(const aclFloatArray* array) {
  return destroy(__func__, array, Kind::kFloatArray);
}
aclnnStatus aclGetFloatArraySize(const aclFloatArray* array, uint64_t* size) {
  return get_size(__func__, array, Kind::kFloatArray, size);
}

aclBoolArray* aclCreateBoolArray(const bool* value, uint64_t size) {
  return static_cast<aclBoolArray*>(create(__func__, Kind::kBoolArray, value, size, sizeof(*value)));
}
aclnnStatus aclDestroyBoolArray(const aclBoolArray* array) {
  return destroy(__func__, array, Kind::kBoolArray);
}
aclnnStatus aclGetBoolArraySize(const aclBoolArray* array, uint64_t* size) {
  return get_size(__func__, array, Kind::kBoolArray, size);
}

aclFp16Array* aclCreateFp16Array(const aclFloat16* value, uint64_t size) {
  return static_cast<aclFp16Array*>(create(__func__, Kind::kFp16Array, value, size, sizeof(*value)));
}
aclnnStatus aclDestroyFp16Array(const aclFp16Array* array) {
  return destroy(__func__, array, Kind::kFp16Array);
}
aclnnStatus aclGetFp16ArraySize(const aclFp16Array* array, uint64_t* size) {
  return get_size(__func__, array, Kind::kFp16Array, size);
}

aclBf16Array* aclCreateBf16Array(const uint16_t* value, uint64_t size) {
  return static_cast<aclBf16Array*>(create(__func__, Kind::kBf16Array, value, size, sizeof(*value)));
}
aclnnStatus aclDestroyBf16Array(const aclBf16Array* array) {
  return destroy(__func__, array, Kind::kBf16Array);
}
aclnnStatus aclGetBf16ArraySize(const aclBf16Array* array, uint64_t* size) {
  return get_size(__func__, array, Kind::kBf16Array, size);
}

aclTensorList* aclCreateTensorList(const aclTensor* const* value, uint64_t size) {
  return static_cast<aclTensorList*>(create(__func__, Kind::kTensorList, value, size, sizeof(*value)));
}
aclnnStatus aclDestroyTensorList(const aclTensorList* array) {
  return destroy_list<const aclTensor*>(__func__, array, Kind::kTensorList, aclDestroyTensor);
}
aclnnStatus aclGetTensorListSize(const aclTensorList* tensorList, uint64_t* size) {
  return get_size(__func__, tensorList, Kind::kTensorList, size);
}

aclScalarList* aclCreateScalarList(const aclScalar* const* value, uint64_t size) {
  return static_cast<aclScalarList*>(create(__func__, Kind::kScalarList, value, size, sizeof(*value)));
}
aclnnStatus aclDestroyScalarList(const aclScalarList* array) {
  return destroy_list<const aclScalar*>(__func__, array, Kind::kScalarList, aclDestroyScalar);
}
aclnnStatus aclGetScalarListSize(const aclScalarList* scalarList, uint64_t* size) {
  return get_size(__func__, scalarList, Kind::kScalarList, size);
}
