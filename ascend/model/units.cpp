#include "model/units.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace ascend_model {
namespace {

constexpr uint32_t kBlock = Core::kGranule;

uint32_t Width(Element type) { return type == Element::kFloat32 ? 4 : 2; }

// Checks that an access fits the tensor's state: copy engines write an allocated VECIN tensor and read a
// dequeued VECOUT tensor; the vector and scalar units access tensors in between.
void CheckState(Core& core, const TensorRef& tensor, BufferState vec_in, BufferState vec_out, bool copy) {
  if (tensor.buffer < 0) {
    core.Fail(4, "a tensor that was never allocated");
  }
  const Buffer& buffer = core.buffer(tensor.buffer);
  if (buffer.position == Position::kVecCalc) {
    if (copy) {
      core.Fail(12, "a copy to or from a VECCALC buffer");
    }
    return;
  }
  if (buffer.generation != tensor.generation || buffer.state == BufferState::kFree) {
    core.Fail(4, "a tensor used after FreeTensor");
  }
  const BufferState wanted = buffer.position == Position::kVecIn ? vec_in : vec_out;
  if (buffer.state != wanted) {
    core.Fail(4,
              wanted == BufferState::kDequeued ? "a tensor used before DeQue" : "a tensor used after EnQue");
  }
}

void CheckRange(Core& core, const TensorRef& tensor, uint64_t bytes) {
  if (tensor.start % kBlock != 0) {
    core.Fail(2, "a UB operand starts at byte " + std::to_string(tensor.start) + ", not a multiple of 32");
  }
  const Buffer& buffer = core.buffer(tensor.buffer);
  if (tensor.start < buffer.start || tensor.start + bytes > uint64_t{buffer.start} + buffer.bytes) {
    core.Fail(3, "accesses UB bytes [" + std::to_string(tensor.start) + ", " +
                     std::to_string(tensor.start + bytes) + ") of a buffer at [" +
                     std::to_string(buffer.start) + ", " + std::to_string(buffer.start + buffer.bytes) + ")");
  }
}

void CheckVector(Core& core, const TensorRef& tensor, int64_t count, uint32_t width) {
  if (count < 0) {
    core.Fail(13, "a negative count " + std::to_string(count));
  }
  CheckState(core, tensor, BufferState::kDequeued, BufferState::kOccupied, false);
  CheckRange(core, tensor, static_cast<uint64_t>(count) * width);
}

void CheckOverlap(Core& core, const TensorRef& dst, uint64_t dst_bytes, const TensorRef& src,
                  uint64_t src_bytes) {
  const bool apart = dst.start + dst_bytes <= src.start || src.start + src_bytes <= dst.start;
  if (!apart && (dst.start != src.start || dst_bytes != src_bytes)) {
    core.Fail(16, "destination and source overlap in part");
  }
}

void RetireVector(Core& core, uint64_t bytes) {
  const Timing& timing = core.options().timing;
  core.CountVector(bytes);
  core.Retire(timing.vector_start + std::ceil(static_cast<double>(bytes) / timing.vector_bytes), 0);
}

float Load(const uint8_t* at, Element type) {
  if (type == Element::kFloat32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return type == Element::kFloat16 ? HalfToFloat(bits) : BfloatToFloat(bits);
}

void Store(uint8_t* at, Element type, float value, Rounding mode, bool saturate) {
  if (type == Element::kFloat32) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const uint16_t bits =
      type == Element::kFloat16 ? FloatToHalf(value, mode, saturate) : FloatToBfloat(value, mode, saturate);
  std::memcpy(at, &bits, sizeof bits);
}

float Apply(Binary op, float a, float b) {
  return op == Binary::kMul ? a * b : op == Binary::kAdd ? a + b : a - b;
}

void CheckArithmetic(Core& core, Element type) {
  if (type != Element::kFloat32 && type != Element::kFloat16) {
    core.Fail(14, "no arithmetic on this dtype; bfloat16 must be cast to float");
  }
}

template <typename Second>
void Elementwise(Core& core, Binary op, Element type, uint32_t dst, uint32_t a, int32_t count,
                 Second second) {
  uint8_t* ub = core.ub();
  if (type == Element::kFloat32) {
    float* out = reinterpret_cast<float*>(ub + dst);
    const float* in = reinterpret_cast<const float*>(ub + a);
    const auto run = [&](auto apply) {
      for (int32_t i = 0; i < count; ++i) {
        out[i] = apply(in[i], second(i));
      }
    };
    switch (op) {
      case Binary::kAdd:
        return run([](float x, float y) { return x + y; });
      case Binary::kSub:
        return run([](float x, float y) { return x - y; });
      case Binary::kMul:
        return run([](float x, float y) { return x * y; });
    }
  }
  // Rounding the float result gives the correctly rounded half result because 24 >= 2 * 11 + 2.
  for (int32_t i = 0; i < count; ++i) {
    Store(ub + dst + 2 * i, type, Apply(op, Load(ub + a + 2 * i, type), second(i)), Rounding::kRint,
          core.options().saturate);
  }
}

}  // namespace

void VectorBinary(const char* call, Binary op, Element type, TensorRef dst, TensorRef a, TensorRef b,
                  int32_t count) {
  Core& core = Core::Current();
  core.Issue(kVector, call);
  CheckArithmetic(core, type);
  const uint32_t width = Width(type);
  for (const TensorRef& tensor : {dst, a, b}) {
    CheckVector(core, tensor, count, width);
  }
  const uint32_t bytes = static_cast<uint32_t>(count) * width;
  CheckOverlap(core, dst, bytes, a, bytes);
  CheckOverlap(core, dst, bytes, b, bytes);
  core.Read(a.start, bytes);
  core.Read(b.start, bytes);
  core.Write(dst.start, bytes);
  const uint8_t* second = core.ub() + b.start;
  if (type == Element::kFloat32) {
    Elementwise(core, op, type, dst.start, a.start, count,
                [p = reinterpret_cast<const float*>(second)](int32_t i) { return p[i]; });
  } else {
    Elementwise(core, op, type, dst.start, a.start, count,
                [=](int32_t i) { return Load(second + 2 * i, type); });
  }
  RetireVector(core, bytes);
}

void VectorScalar(const char* call, Binary op, Element type, TensorRef dst, TensorRef src, float scalar,
                  int32_t count) {
  Core& core = Core::Current();
  core.Issue(kVector, call);
  CheckArithmetic(core, type);
  const uint32_t width = Width(type);
  CheckVector(core, dst, count, width);
  CheckVector(core, src, count, width);
  const uint32_t bytes = static_cast<uint32_t>(count) * width;
  CheckOverlap(core, dst, bytes, src, bytes);
  core.Read(src.start, bytes);
  core.Write(dst.start, bytes);
  Elementwise(core, op, type, dst.start, src.start, count, [scalar](int32_t) { return scalar; });
  RetireVector(core, bytes);
}

void VectorFill(const char* call, TensorRef dst, uint32_t bits, uint32_t element_bytes, int32_t count) {
  Core& core = Core::Current();
  core.Issue(kVector, call);
  if (element_bytes != 2 && element_bytes != 4) {
    core.Fail(14, "elements of 16 or 32 bits only");
  }
  CheckVector(core, dst, count, element_bytes);
  const uint32_t bytes = static_cast<uint32_t>(count) * element_bytes;
  core.Write(dst.start, bytes);
  for (uint32_t i = 0; i < bytes; i += element_bytes) {
    std::memcpy(core.ub() + dst.start + i, &bits, element_bytes);
  }
  RetireVector(core, bytes);
}

void VectorCast(TensorRef dst, Element to, TensorRef src, Element from, Rounding mode, uint32_t count) {
  Core& core = Core::Current();
  core.Issue(kVector, "Cast");
  const bool widen = to == Element::kFloat32 && (from == Element::kFloat16 || from == Element::kBfloat16);
  const bool narrow = from == Element::kFloat32 && (to == Element::kFloat16 || to == Element::kBfloat16);
  const bool no_bfloat = core.options().architecture == 2002;
  const bool mode_ok = widen ? mode == Rounding::kNone
                       : no_bfloat
                           ? mode == Rounding::kNone || mode == Rounding::kOdd
                           : to == Element::kFloat16 || (mode != Rounding::kNone && mode != Rounding::kOdd);
  const bool type_ok = !no_bfloat || (to != Element::kBfloat16 && from != Element::kBfloat16);
  if (!(widen || narrow) || !mode_ok || !type_ok) {
    core.Fail(15, "no such cast in this round mode: the instruction is not emitted");
  }
  CheckVector(core, dst, count, Width(to));
  CheckVector(core, src, count, Width(from));
  const uint32_t src_bytes = count * Width(from);
  const uint32_t dst_bytes = count * Width(to);
  CheckOverlap(core, dst, dst_bytes, src, src_bytes);
  core.Read(src.start, src_bytes);
  core.Write(dst.start, dst_bytes);
  const uint8_t* in = core.ub() + src.start;
  uint8_t* out = core.ub() + dst.start;
  for (uint32_t i = 0; i < count; ++i) {
    Store(out + i * Width(to), to, Load(in + i * Width(from), from), mode, core.options().saturate);
  }
  RetireVector(core, std::max(src_bytes, dst_bytes));
}

namespace {

void CheckCopy(Core& core, const CopyShape& shape) {
  if (shape.blocks > 4095 || shape.block_bytes > 2097151) {
    core.Fail(12, "blockCount " + std::to_string(shape.blocks) + " or blockLen " +
                      std::to_string(shape.block_bytes) + " out of range (4095, 2097151)");
  }
  if (shape.block_bytes % shape.element_bytes != 0) {
    core.Fail(12, "blockLen is no multiple of the element");
  }
  if (shape.pad_left * shape.element_bytes > kBlock || shape.pad_right * shape.element_bytes > kBlock) {
    core.Fail(12, "a padding of more than 32 bytes");
  }
}

uint64_t Pitch(const CopyShape& shape, bool in) {
  const uint32_t padding = in ? (shape.pad_left + shape.pad_right) * shape.element_bytes : 0;
  return (shape.block_bytes + padding + kBlock - 1) / kBlock * kBlock + shape.ub_gap * kBlock;
}

void RetireCopy(Core& core, Pipe pipe, uint64_t bytes) {
  const Timing& timing = core.options().timing;
  core.CountCopy(pipe, bytes);
  core.Retire(static_cast<double>(bytes) / timing.bus_bytes, timing.copy_latency);
}

}  // namespace

void CopyToLocal(const char* call, TensorRef dst, uintptr_t src, const CopyShape& shape) {
  Core& core = Core::Current();
  core.Issue(kCopyIn, call);
  CheckCopy(core, shape);
  CheckState(core, dst, BufferState::kOccupied, BufferState::kEnqueued, true);
  if (core.buffer(dst.buffer).position != Position::kVecIn) {
    core.Fail(12, "a copy from global memory into a buffer that is not VECIN");
  }
  if (shape.blocks == 0 || shape.block_bytes == 0) {
    return;
  }
  const uint64_t pitch = Pitch(shape, true);
  const uint64_t padded = pitch - shape.ub_gap * kBlock;
  CheckRange(core, dst, pitch * (shape.blocks - 1) + padded);
  for (uint32_t i = 0; i < shape.blocks; ++i) {
    const uintptr_t from = src + i * (shape.block_bytes + shape.gm_gap);
    const uint32_t at = static_cast<uint32_t>(dst.start + i * pitch);
    const uint32_t left = shape.padded ? shape.pad_left * shape.element_bytes : 0;
    core.memory().CheckRead(call, from, shape.block_bytes, core.options().block);
    core.Write(at, shape.padded ? static_cast<uint32_t>(padded) : shape.block_bytes);
    if (shape.padded) {
      for (uint32_t b = 0; b < padded; b += shape.element_bytes) {
        std::memcpy(core.ub() + at + b, &shape.pad_bits, shape.element_bytes);
      }
    }
    std::memcpy(core.ub() + at + left, reinterpret_cast<const void*>(from), shape.block_bytes);
  }
  RetireCopy(core, kCopyIn, uint64_t{shape.blocks} * shape.block_bytes);
}

void CopyToGlobal(const char* call, uintptr_t dst, TensorRef src, const CopyShape& shape) {
  Core& core = Core::Current();
  core.Issue(kCopyOut, call);
  CheckCopy(core, shape);
  CheckState(core, src, BufferState::kEnqueued, BufferState::kDequeued, true);
  if (core.buffer(src.buffer).position != Position::kVecOut) {
    core.Fail(12, "a copy to global memory from a buffer that is not VECOUT");
  }
  if (shape.blocks == 0 || shape.block_bytes == 0) {
    return;
  }
  const uint64_t pitch = Pitch(shape, false);
  CheckRange(core, src, pitch * (shape.blocks - 1) + shape.block_bytes);
  for (uint32_t i = 0; i < shape.blocks; ++i) {
    const uint32_t at = static_cast<uint32_t>(src.start + i * pitch);
    const uintptr_t to = dst + i * (shape.block_bytes + shape.gm_gap);
    core.Read(at, shape.block_bytes);
    core.memory().Write(call, to, shape.block_bytes, core.options().block);
    std::memcpy(reinterpret_cast<void*>(to), core.ub() + at, shape.block_bytes);
    core.CopiedOut(to, shape.block_bytes);
  }
  RetireCopy(core, kCopyOut, uint64_t{shape.blocks} * shape.block_bytes);
}

}  // namespace ascend_model
