// Stand-in for CANN's kernel API: the names and signatures CANN documents, executed and checked by the model.
// Only what a vector operator needs; anything else does not compile.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "model/units.h"

#define __global__
#define __aicore__
#define __gm__
#define __ubuf__
#define GM_ADDR uint8_t*

#define KERNEL_TYPE_AIV_ONLY 0
#define KERNEL_TASK_TYPE_DEFAULT(type) \
  static_assert((type) == KERNEL_TYPE_AIV_ONLY, "the model has vector cores only")
#define REGISTER_TILING_DEFAULT(type) \
  static_assert(std::is_trivially_copyable_v<type> && sizeof(type) % 8 == 0)
#define GET_TILING_DATA_WITH_STRUCT(type, name, address) \
  type name;                                             \
  std::memcpy(&name, address, sizeof(type))

struct half {
  uint16_t bits = 0;
};
struct bfloat16_t {
  uint16_t bits = 0;
};

enum pipe_t { PIPE_S, PIPE_V, PIPE_M, PIPE_MTE1, PIPE_MTE2, PIPE_MTE3, PIPE_ALL };
using TEventID = int8_t;

namespace AscendC {

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
  return std::is_same_v<T, float>        ? model::Element::kFloat32
         : std::is_same_v<T, half>       ? model::Element::kFloat16
         : std::is_same_v<T, bfloat16_t> ? model::Element::kBfloat16
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
inline float FloatOf(bfloat16_t value) { return model::BfloatToFloat(value.bits); }

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
  template <CacheRwMode rw = CacheRwMode::RW>
  void SetL2CacheHint(CacheMode) {}
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
  uintptr_t address() const { return address_; }

 private:
  uintptr_t address_ = 0;
  uint64_t size_ = 0;
};

struct TQueConfig {
  uint32_t bufferNumber = 0;
  uint32_t bufferLen = 0;
};

class TPipe;

template <TPosition position, int32_t depth, auto mask = 0>
class TQue {
 public:
  template <typename T>
  LocalTensor<T> AllocTensor() {
    model::Core& core = Core();
    const int index = first_ + static_cast<int>(next_);
    next_ = (next_ + 1) % cursor_modulus_;
    core.Alloc(index, kProducer);
    return LocalTensor<T>(Ref(index));
  }
  template <typename T>
  bool EnQue(const LocalTensor<T>& tensor) {
    model::Core& core = Core();
    if (queued_ >= (depth == 0 ? 1 : depth)) {
      core.Fail(5, "more EnQue than the queue's depth without DeQue");
    }
    core.Enqueue(tensor.ref().buffer, kProducer);
    waiting_[(head_ + queued_++) % 8] = tensor.ref().buffer;
    return true;
  }
  template <typename T>
  LocalTensor<T> DeQue() {
    model::Core& core = Core();
    if (queued_ == 0) {
      core.Fail(5, "DeQue of an empty queue");
    }
    const int index = waiting_[head_];
    head_ = (head_ + 1) % 8;
    --queued_;
    core.Dequeue(index, kConsumer);
    return LocalTensor<T>(Ref(index));
  }
  template <typename T>
  void FreeTensor(LocalTensor<T>& tensor) {
    Core().Free(tensor.ref().buffer, kConsumer);
  }

 private:
  friend class TPipe;
  static_assert(position != TPosition::VECCALC);
  static constexpr bool kIn = position == TPosition::VECIN;
  static constexpr model::Pipe kProducer = kIn ? model::kCopyIn : model::kVector;
  static constexpr model::Pipe kConsumer = kIn ? model::kVector : model::kCopyOut;

  model::Core& Core() const {
    model::Core& core = model::Core::Current();
    if (first_ < 0) {
      core.Fail(1, "a queue without InitBuffer");
    }
    return core;
  }
  model::TensorRef Ref(int index) const {
    const model::Buffer& buffer = model::Core::Current().buffer(index);
    return {index, buffer.generation, buffer.start, buffer.bytes};
  }

  int first_ = -1;
  uint32_t next_ = 0;
  uint32_t cursor_modulus_ = 1;
  int waiting_[8] = {};
  int head_ = 0;
  int queued_ = 0;
};

template <TPosition position = TPosition::VECCALC>
class TBuf {
 public:
  template <typename T>
  LocalTensor<T> Get() {
    const model::Buffer& buffer = model::Core::Current().buffer(index_);
    return LocalTensor<T>(model::TensorRef{index_, 0, buffer.start, buffer.bytes});
  }

 private:
  friend class TPipe;
  static_assert(position == TPosition::VECCALC);
  int index_ = -1;
};

class TPipe {
 public:
  TPipe() { model::Core::Current().OpenPipe(); }
  template <TPosition position, int32_t depth, auto mask>
  bool InitBuffer(TQue<position, depth, mask>& queue, uint8_t count, uint32_t bytes) {
    model::Core& core = model::Core::Current();
    queue.cursor_modulus_ = count == 0 ? 1 : count;
    if constexpr (std::is_pointer_v<decltype(mask)>) {
      if ((mask->bufferNumber != 0 && mask->bufferNumber != count) ||
          (mask->bufferLen != 0 && mask->bufferLen != bytes)) {
        core.Fail(7, "TQueConfig and InitBuffer disagree: a bufferNumber of 1 compiles the cursor away");
      }
    }
    queue.first_ =
        core.Allot(position == TPosition::VECIN ? model::Place::kVecIn : model::Place::kVecOut, count, bytes);
    return true;
  }
  template <TPosition position>
  bool InitBuffer(TBuf<position>& buffer, uint32_t bytes) {
    buffer.index_ = model::Core::Current().Allot(model::Place::kVecCalc, 1, bytes);
    return true;
  }
  TEventID FetchEventID(HardEvent event) {
    return static_cast<TEventID>(model::Core::Current().FetchEvent(static_cast<int>(event)));
  }
};

struct DataCopyExtParams {
  DataCopyExtParams() = default;
  DataCopyExtParams(uint16_t count, uint32_t length, uint32_t src, uint32_t dst, uint32_t reserved)
      : blockCount(count), blockLen(length), srcStride(src), dstStride(dst), rsv(reserved) {}
  uint16_t blockCount = 1;
  uint32_t blockLen = 0;
  uint32_t srcStride = 0;
  uint32_t dstStride = 0;
  uint32_t rsv = 0;
};

template <typename T>
struct DataCopyPadExtParams {
  bool isPad = false;
  uint8_t leftPadding = 0;
  uint8_t rightPadding = 0;
  T paddingValue = {};
};

template <typename T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, uint32_t count) {
  model::PlainCopyToLocal(dst.ref(), src.address(), count, sizeof(T));
}
template <typename T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, uint32_t count) {
  model::PlainCopyToGlobal(dst.address(), src.ref(), count, sizeof(T));
}
template <typename T>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyExtParams& p,
                 const DataCopyPadExtParams<T>& pad) {
  model::CopyToLocal("DataCopyPad", dst.ref(), src.address(),
                     {p.blockCount, p.blockLen, p.srcStride, p.dstStride, sizeof(T), pad.isPad,
                      pad.leftPadding, pad.rightPadding, BitsOf(pad.paddingValue)});
}
template <typename T>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyExtParams& p) {
  model::CopyToGlobal("DataCopyPad", dst.address(), src.ref(),
                      {p.blockCount, p.blockLen, p.dstStride, p.srcStride, sizeof(T), false, 0, 0, 0});
}

template <typename T>
void Add(const LocalTensor<T>& dst, const LocalTensor<T>& a, const LocalTensor<T>& b, const int32_t& count) {
  model::VectorBinary("Add", model::Binary::kAdd, ElementOf<T>(), dst.ref(), a.ref(), b.ref(), count);
}
template <typename T>
void Sub(const LocalTensor<T>& dst, const LocalTensor<T>& a, const LocalTensor<T>& b, const int32_t& count) {
  model::VectorBinary("Sub", model::Binary::kSub, ElementOf<T>(), dst.ref(), a.ref(), b.ref(), count);
}
template <typename T>
void Mul(const LocalTensor<T>& dst, const LocalTensor<T>& a, const LocalTensor<T>& b, const int32_t& count) {
  model::VectorBinary("Mul", model::Binary::kMul, ElementOf<T>(), dst.ref(), a.ref(), b.ref(), count);
}
template <typename T>
void Adds(const LocalTensor<T>& dst, const LocalTensor<T>& src, const T& scalar, const int32_t& count) {
  model::VectorScalar("Adds", model::Binary::kAdd, ElementOf<T>(), dst.ref(), src.ref(), FloatOf(scalar),
                      count);
}
template <typename T>
void Muls(const LocalTensor<T>& dst, const LocalTensor<T>& src, const T& scalar, const int32_t& count) {
  model::VectorScalar("Muls", model::Binary::kMul, ElementOf<T>(), dst.ref(), src.ref(), FloatOf(scalar),
                      count);
}
template <typename T>
void Duplicate(const LocalTensor<T>& dst, const T& scalar, const int32_t& count) {
  model::VectorFill("Duplicate", dst.ref(), BitsOf(scalar), sizeof(T), count);
}
template <typename T, typename U>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, const RoundMode& mode, const uint32_t count) {
  model::VectorCast(dst.ref(), ElementOf<T>(), src.ref(), ElementOf<U>(), static_cast<model::Rounding>(mode),
                    count);
}

template <pipe_t pipe>
void PipeBarrier() {
  static_assert(pipe == PIPE_V || pipe == PIPE_MTE2 || pipe == PIPE_MTE3 || pipe == PIPE_ALL);
  model::Core::Current().Barrier(pipe == PIPE_V      ? model::kVector
                                 : pipe == PIPE_MTE2 ? model::kCopyIn
                                 : pipe == PIPE_MTE3 ? model::kCopyOut
                                                     : model::kPipes);
}

constexpr model::Pipe EventSource(HardEvent e) {
  return e == HardEvent::V_MTE2 || e == HardEvent::V_MTE3 || e == HardEvent::V_S         ? model::kVector
         : e == HardEvent::MTE2_V || e == HardEvent::MTE2_MTE3 || e == HardEvent::MTE2_S ? model::kCopyIn
         : e == HardEvent::MTE3_V || e == HardEvent::MTE3_MTE2 || e == HardEvent::MTE3_S ? model::kCopyOut
                                                                                         : model::kScalar;
}
constexpr model::Pipe EventTarget(HardEvent e) {
  return e == HardEvent::MTE2_V || e == HardEvent::MTE3_V || e == HardEvent::S_V         ? model::kVector
         : e == HardEvent::V_MTE2 || e == HardEvent::MTE3_MTE2 || e == HardEvent::S_MTE2 ? model::kCopyIn
         : e == HardEvent::V_MTE3 || e == HardEvent::MTE2_MTE3 || e == HardEvent::S_MTE3 ? model::kCopyOut
                                                                                         : model::kScalar;
}
template <HardEvent event>
void SetFlag(int32_t id) {
  model::Core::Current().SetFlag(static_cast<int>(event), EventSource(event), id);
}
template <HardEvent event>
void WaitFlag(int32_t id) {
  model::Core::Current().WaitFlag(static_cast<int>(event), EventTarget(event), id);
}

}  // namespace AscendC
