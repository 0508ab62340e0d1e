#include "aclnn/values.h"

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
    // NOLINTNEXTLINE(bugprone-sizeof-expression): T may be a pointer
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

// As in CANN a list owns its elements: they are destroyed with it.
aclnnStatus destroy_element(const Values& list, uint64_t i) noexcept {
  return list.kind == Kind::kTensorList ? aclDestroyTensor(list.at<const aclTensor*>(i))
                                        : aclDestroyScalar(list.at<const aclScalar*>(i));
}

aclnnStatus destroy(const char* function, const void* handle, Kind kind) noexcept {
  if (handle == nullptr) return ACLNN_SUCCESS;
  const auto pin = acquire(handle, kind);
  if (!pin || !values.retire(handle)) return invalid_handle(function, handle);
  aclnnStatus first_failure = ACLNN_SUCCESS;
  const bool list = kind == Kind::kTensorList || kind == Kind::kScalarList;
  for (uint64_t i = 0; list && i < pin->size; ++i) {
    const aclnnStatus code = destroy_element(*pin, i);
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

#define MSELOSS_SEQUENCE(Name, Element)                                                           \
  acl##Name* aclCreate##Name(Element const* value, uint64_t size) {                               \
    return static_cast<acl##Name*>(create(__func__, Kind::k##Name, value, size, sizeof(*value))); \
  }                                                                                               \
  aclnnStatus aclDestroy##Name(const acl##Name* sequence) {                                       \
    return destroy(__func__, sequence, Kind::k##Name);                                            \
  }                                                                                               \
  aclnnStatus aclGet##Name##Size(const acl##Name* sequence, uint64_t* size) {                     \
    return get_size(__func__, sequence, Kind::k##Name, size);                                     \
  }
MSELOSS_SEQUENCE(IntArray, int64_t)
MSELOSS_SEQUENCE(FloatArray, float)
MSELOSS_SEQUENCE(BoolArray, bool)
MSELOSS_SEQUENCE(Fp16Array, aclFloat16)
MSELOSS_SEQUENCE(Bf16Array, uint16_t)
// NOLINTBEGIN(bugprone-sizeof-expression): elements that are pointers
MSELOSS_SEQUENCE(TensorList, const aclTensor*)
MSELOSS_SEQUENCE(ScalarList, const aclScalar*)
// NOLINTEND(bugprone-sizeof-expression)
#undef MSELOSS_SEQUENCE
