// Replacement for CANN's kernel API: the documented names and signatures, executed and checked by the model.
// Only what a vector operator needs; anything else fails to compile.
#pragma once

#include "model_kernel_queue.h"
#include "model_kernel_tensor.h"

namespace AscendC {
inline namespace MODEL_ARCHITECTURE {

#if MODEL_HAS_COPY_PAD
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
#endif

template <typename T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, uint32_t count) {
  model::PlainCopyToLocal(dst.ref(), src.address(), count, sizeof(T));
}
template <typename T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, uint32_t count) {
  model::PlainCopyToGlobal(dst.address(), src.ref(), count, sizeof(T));
}
#if MODEL_HAS_COPY_PAD
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
#endif

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

template <typename T, CacheLine line>
void DataCacheCleanAndInvalid(const GlobalTensor<T>& dst) {
  static_assert(line == CacheLine::SINGLE_CACHE_LINE);
  model::CleanCacheLine(dst.address());
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

}  // namespace MODEL_ARCHITECTURE
}  // namespace AscendC
