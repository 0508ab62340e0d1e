// XLA's operands, of any rank, as tensors that the library accepts.
#pragma once

#include <cstdint>
#include <span>

#include "jax/xla_ffi.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

DType dtype_of(const xla::Buffer& buffer);
std::span<const int64_t> shape_of(const xla::Buffer& buffer);
int64_t count_of(const xla::Buffer& buffer);
size_t bytes_of(const xla::Buffer& buffer);

// The operands of one call, whose shapes broadcast together when aligned at their last dimension. XLA's
// arrays are dense and row-major, so adjacent dimensions merge into one if the same operands are broadcast
// along both. The last kMaxRank of the merged dimensions are those of a block; the others, in practice none,
// form a loop over blocks. (vmap puts a dimension in front of operands that may have kMaxRank already.)
class Blocks {
 public:
  // The buffers outlive this object. At most kMaxOperands.
  Blocks(std::initializer_list<const xla::Buffer*> buffers);

  int64_t count() const { return count_; }
  // Operand `index`, in the order of the buffers, in one block.
  Tensor tensor(int64_t block, int index) const;

 private:
  static constexpr int kMaxOperands = 4;
  // Merged dimensions have an extent of at least 2 and at most 2^63 elements together.
  static constexpr int kMaxDimensions = 63;

  void merge(int64_t extent, unsigned broadcast);
  void finish();

  const xla::Buffer* buffers_[kMaxOperands];
  int operands_ = 0;
  int rank_ = 0, outer_ = 0;  // merged dimensions; those of the loop over blocks
  int64_t count_ = 1;
  int64_t extent_[kMaxDimensions];
  unsigned broadcast_[kMaxDimensions];  // bit i: operand i is broadcast along the dimension
  int64_t shape_[kMaxOperands][kMaxRank];
};

}  // namespace mseloss::python
