// Part of kernel_operator.h: keywords, types, and tensors in the unified buffer and in global memory.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "model/units.h"

// The chip that the kernel is compiled for; Atlas A2 and A3 by default.
#ifndef __NPU_ARCH__
#define __NPU_ARCH__ 2201
#endif
#if __NPU_ARCH__ == 2002
#define MODEL_ARCHITECTURE ascend310p
#define MODEL_HAS_BFLOAT16 0
#define MODEL_HAS_COPY_PAD 0  // nor L2 cache hints, nor separate vector cores
#elif __NPU_ARCH__ == 3510
#define MODEL_ARCHITECTURE ascend950
#define MODEL_HAS_BFLOAT16 1
#define MODEL_HAS_COPY_PAD 1
#else
#define MODEL_ARCHITECTURE ascend910b
#define MODEL_HAS_BFLOAT16 1
#define MODEL_HAS_COPY_PAD 1
#endif

#define __global__
#define __aicore__
#define __gm__
#define __ubuf__
#define GM_ADDR uint8_t*

#define KERNEL_TYPE_AIV_ONLY 0
#define KERNEL_TYPE_AICORE 6
#define KERNEL_TASK_TYPE_DEFAULT(type)                                                      \
  static_assert((type) == (MODEL_HAS_COPY_PAD ? KERNEL_TYPE_AIV_ONLY : KERNEL_TYPE_AICORE), \
                "not a kernel type of this chip for vector work")
#define REGISTER_TILING_DEFAULT(type) \
  static_assert(std::is_trivially_copyable_v<type> && sizeof(type) % 8 == 0)
#define GET_TILING_DATA_WITH_STRUCT(type, name, address) \
  type name;                                             \
  std::memcpy(&name, address, sizeof(type))

struct half {
  uint16_t bits = 0;
};
#if MODEL_HAS_BFLOAT16
struct bfloat16_t {
  uint16_t bits = 0;
};
#endif

enum pipe_t { PIPE_S, PIPE_V, PIPE_M, PIPE_MTE1, PIPE_MTE2, PIPE_MTE3, PIPE_ALL };
using TEventID = int8_t;

namespace AscendC {
// Objects for different chips can be linked into one program.
inline namespace MODEL_ARCHITECTURE {

namespace model = ascend_model;

enum class TPosition { VECIN, VECOUT, VECCALC };
using QuePosition = TPosition;
enum class RoundMode { CAST_NONE, CAST_RINT, CAST_FLOOR, CAST_CEIL, CAST_ROUND, CAST_TRUNC, CAST_ODD };
enum class CacheMode {
  CACHE_MODE_DISABLE = 0,
  CACHE_MODE_NORMAL = 1,
  CACHE_MODE_LAST = 2,
  CACHE_MODE_PERSISTENT = 4
};
enum class CacheLine : uint64_t { SINGLE_CACHE_LINE = 0, ENTIRE_DATA_CACHE };
enum class CacheRwMode { READ = 1, WRITE = 2, RW = 3 };
enum class HardEvent {
  MTE2_V,
  V_MTE2,
  MTE3_V,
  V_MTE3,
  MTE2_MTE3,
  MTE3_MTE2,
  V_S,
  S_V,
  MTE2_S,
  S_MTE2,
  MTE3_S,
  S_MTE3
};

template <typename T, typename U>
struct IsSameType : std::is_same<T, U> {};

template <typename T>
constexpr model::Element ElementOf() {
#if MODEL_HAS_BFLOAT16
  if (std::is_same_v<T, bfloat16_t>) {
    return model::Element::kBfloat16;
  }
#endif
  return std::is_same_v<T, float>  ? model::Element::kFloat32
         : std::is_same_v<T, half> ? model::Element::kFloat16
                                   : model::Element::kOther;
}

template <typename T>
uint32_t BitsOf(const T& value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

inline float FloatOf(float value) { return value; }
inline float FloatOf(half value) { return model::HalfToFloat(value.bits); }
#if MODEL_HAS_BFLOAT16
inline float FloatOf(bfloat16_t value) { return model::BfloatToFloat(value.bits); }
#endif

inline int64_t GetBlockIdx() { return model::Core::Current().options().block; }
inline int64_t GetBlockNum() { return model::Core::Current().options().blocks; }

template <typename T>
class LocalTensor {
 public:
  LocalTensor() = default;
  explicit LocalTensor(const model::TensorRef& ref)
      : ref_(ref), elements_(reinterpret_cast<const T*>(model::Core::Current().ub() + ref.start)) {}
  LocalTensor operator[](uint32_t offset) const {
    model::TensorRef ref = ref_;
    const uint64_t bytes = uint64_t{offset} * sizeof(T);
    if (bytes > ref.bytes) {
      model::Core::Current().Fail(3, "an offset past the end of a local tensor");
    }
    ref.start += static_cast<uint32_t>(bytes);
    ref.bytes -= static_cast<uint32_t>(bytes);
    return LocalTensor(ref);
  }
  uint32_t GetSize() const { return ref_.bytes / static_cast<uint32_t>(sizeof(T)); }
  T GetValue(uint32_t index) const {
    T value;
    model::ScalarRead(ref_, index * static_cast<uint32_t>(sizeof(T)), &value, sizeof(T));
    return value;
  }
  void SetValue(uint32_t index, T value) const {
    model::ScalarWrite(ref_, index * static_cast<uint32_t>(sizeof(T)), &value, sizeof(T));
  }
  template <typename U>
  LocalTensor<U> ReinterpretCast() const {
    return LocalTensor<U>(ref_);
  }
  const model::TensorRef& ref() const { return ref_; }

 private:
  model::TensorRef ref_;
  const T* elements_ = nullptr;  // for debuggers: print *tensor.elements_@8
};

template <typename T>
class GlobalTensor {
 public:
  void SetGlobalBuffer(__gm__ T* buffer, uint64_t size = 0) {
    address_ = reinterpret_cast<uintptr_t>(buffer);
    size_ = size;
  }
#if MODEL_HAS_COPY_PAD
  template <CacheRwMode rw = CacheRwMode::RW>
  void SetL2CacheHint(CacheMode) {}
#endif
  GlobalTensor operator[](uint64_t offset) const {
    GlobalTensor moved = *this;
    moved.address_ += offset * sizeof(T);
    moved.size_ = size_ > offset ? size_ - offset : 0;
    return moved;
  }
  uint64_t GetSize() const { return size_; }
  T GetValue(uint64_t offset) const {
    T value;
    model::ScalarReadGlobal(address_ + offset * sizeof(T), &value, sizeof(T));
    return value;
  }
  void SetValue(uint64_t offset, T value) {
    model::ScalarWriteGlobal(address_ + offset * sizeof(T), &value, sizeof(T));
  }
  uintptr_t address() const { return address_; }

 private:
  uintptr_t address_ = 0;
  uint64_t size_ = 0;
};

}  // namespace MODEL_ARCHITECTURE
}  // namespace AscendC
