// The instructions of the vector unit, the copy engines and the scalar unit, without the kernel API's types.
#pragma once

#include <cstdint>

#include "model/core.h"

namespace ascend_model {

enum class Element { kFloat32, kFloat16, kBfloat16, kOther };

// Values equal AscendC::RoundMode.
enum class Rounding { kNone = 0, kRint = 1, kFloor = 2, kCeil = 3, kRound = 4, kTrunc = 5, kOdd = 6 };

// A local tensor without its element type.
struct TensorRef {
  int buffer = -1;
  uint32_t generation = 0;
  uint32_t start = 0;  // bytes into UB
  uint32_t bytes = 0;  // up to the end of its buffer
};

struct CopyShape {
  uint32_t blocks;
  uint32_t block_bytes;
  uint64_t gm_gap;  // bytes
  uint64_t ub_gap;  // 32-byte blocks
  uint32_t element_bytes;
  bool padded;        // fill to 32 bytes with `pad_bits`
  uint32_t pad_left;  // elements
  uint32_t pad_right;
  uint32_t pad_bits;
};

enum class Binary { kAdd, kSub, kMul };

void VectorBinary(const char* call, Binary op, Element type, TensorRef dst, TensorRef a, TensorRef b,
                  int32_t count);
void VectorScalar(const char* call, Binary op, Element type, TensorRef dst, TensorRef src, float scalar,
                  int32_t count);
void VectorFill(const char* call, TensorRef dst, uint32_t bits, uint32_t element_bytes, int32_t count);
void VectorCast(TensorRef dst, Element to, TensorRef src, Element from, Rounding mode, uint32_t count);
void CopyToLocal(const char* call, TensorRef dst, uintptr_t src, const CopyShape& shape);
void CopyToGlobal(const char* call, uintptr_t dst, TensorRef src, const CopyShape& shape);
void PlainCopyToLocal(TensorRef dst, uintptr_t src, uint32_t count, uint32_t element_bytes);
void PlainCopyToGlobal(uintptr_t dst, TensorRef src, uint32_t count, uint32_t element_bytes);
void ScalarRead(TensorRef src, uint32_t offset, void* value, uint32_t bytes);
void ScalarWrite(TensorRef dst, uint32_t offset, const void* value, uint32_t bytes);
void ScalarReadGlobal(uintptr_t src, void* value, uint32_t bytes);
void ScalarWriteGlobal(uintptr_t dst, const void* value, uint32_t bytes);
void CleanCacheLine(uintptr_t address);  // from the address on

float HalfToFloat(uint16_t bits);
float BfloatToFloat(uint16_t bits);
uint16_t FloatToHalf(float value, Rounding mode, bool saturate);
uint16_t FloatToBfloat(float value, Rounding mode, bool saturate);

}  // namespace ascend_model
