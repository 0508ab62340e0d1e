// XLA's operands, of any rank, as tensors that the library accepts.
#pragma once

#include <cstdint>
#include <span>

#include "arrays/result_array.h"
#include "jax/xla_ffi.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

inline DType dtype_of(const xla::Buffer& buffer) {
  switch (buffer.dtype) {
    case xla::Type::kBool:
      return DType::kBool;
    case xla::Type::kF16:
      return DType::kFloat16;
    case xla::Type::kBF16:
      return DType::kBFloat16;
    case xla::Type::kF64:
      return DType::kFloat64;
    default:
      return DType::kFloat32;
  }
}

inline std::span<const int64_t> shape_of(const xla::Buffer& buffer) {
  return {buffer.dims, static_cast<size_t>(buffer.rank)};
}

inline int64_t count_of(const xla::Buffer& buffer) { return element_count(shape_of(buffer)); }

inline size_t bytes_of(const xla::Buffer& buffer) {
  return static_cast<size_t>(count_of(buffer)) * size_of(dtype_of(buffer));
}

// One operand of a call: a dense row-major array.
struct Operand {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  std::span<const int64_t> shape;
  // The shape is aligned at the first dimension, as that of a loss is; otherwise at the last one.
  bool leading = false;

  Operand() = default;
  Operand(const xla::Buffer& buffer, bool aligned_first = false)  // NOLINT: implicit on purpose
      : data(buffer.data), dtype(dtype_of(buffer)), shape(shape_of(buffer)), leading(aligned_first) {}
  Operand(void* d, DType t, std::span<const int64_t> s) : data(d), dtype(t), shape(s) {}
};

// The operands of one call, whose shapes broadcast together. XLA's arrays are dense and row-major, so
// adjacent dimensions merge into one if the same operands are broadcast along both. The last kMaxRank of the
// merged dimensions are those of a block; the others, in practice none, form a loop over blocks. (vmap puts a
// dimension in front of operands that may have kMaxRank already.)
class Blocks {
 public:
  // The operands outlive this object. At most kMaxOperands. `loss` is the index of the loss if its broadcast
  // dimensions are those of a sum or mean, else -1.
  explicit Blocks(std::span<const Operand> operands, int loss = -1);

  bool empty() const { return empty_; }  // the broadcast shape has no elements; then there are no blocks
  int64_t count() const { return empty_ ? 0 : count_; }
  // How many consecutive blocks belong to the same element of the loss: 1 unless a loop sums. If there is
  // such a loop, each block has one element of the loss.
  int64_t blocks_per_slice() const { return per_slice_; }
  // Operand `index` in one block; its extents are 1 where it is broadcast, or with `full` never. A loss of
  // one element in the block is 0-dimensional.
  Tensor tensor(int64_t block, int index, bool full = false) const;

 private:
  static constexpr int kMaxOperands = 6;
  // Merged dimensions have an extent of at least 2 and at most 2^63 elements together.
  static constexpr int kMaxDimensions = 63;

  void merge(int64_t extent, unsigned broadcast);
  void set_strides();
  void put_slices_first();
  void divide();

  std::span<const Operand> operands_;
  int loss_;
  bool empty_ = false;
  int rank_ = 0, outer_ = 0;  // merged dimensions; those of the loop over blocks
  int64_t count_ = 1, per_slice_ = 1;
  int64_t extent_[kMaxDimensions];
  unsigned broadcast_[kMaxDimensions];  // bit i: operand i is broadcast along the dimension
  int64_t stride_[kMaxOperands][kMaxDimensions];
  int64_t shape_[kMaxOperands][kMaxRank];
};

}  // namespace mseloss::python
