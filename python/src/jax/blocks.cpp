#include "jax/blocks.h"

#include <algorithm>

#include "arrays/result_array.h"

namespace mseloss::python {

DType dtype_of(const xla::Buffer& buffer) {
  switch (buffer.dtype) {
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

std::span<const int64_t> shape_of(const xla::Buffer& buffer) {
  return {buffer.dims, static_cast<size_t>(buffer.rank)};
}

int64_t count_of(const xla::Buffer& buffer) { return element_count(shape_of(buffer)); }

size_t bytes_of(const xla::Buffer& buffer) {
  return static_cast<size_t>(count_of(buffer)) * size_of(dtype_of(buffer));
}

Blocks::Blocks(std::initializer_list<const xla::Buffer*> buffers) {
  int64_t rank = 0;
  bool empty = false;
  for (const xla::Buffer* buffer : buffers) {
    buffers_[operands_++] = buffer;
    rank = std::max(rank, buffer->rank);
    empty = empty || count_of(*buffer) == 0;
  }
  for (int64_t i = 0; i < rank && !empty; ++i) {
    int64_t extent = 1;
    unsigned broadcast = 0;
    for (int operand = 0; operand < operands_; ++operand) {
      const xla::Buffer& buffer = *buffers_[operand];
      const int64_t at = i - (rank - buffer.rank), own = at < 0 ? 1 : buffer.dims[at];
      if (own == 1) broadcast |= 1u << operand;
      extent = std::max(extent, own);
    }
    if (extent != 1) merge(extent, broadcast);
  }
  if (empty) {
    unsigned broadcast = 0;
    for (int operand = 0; operand < operands_; ++operand) {
      if (count_of(*buffers_[operand]) != 0) broadcast |= 1u << operand;
    }
    merge(0, broadcast);
  }
  finish();
}

void Blocks::merge(int64_t extent, unsigned broadcast) {
  if (rank_ > 0 && broadcast_[rank_ - 1] == broadcast) {
    extent_[rank_ - 1] *= extent;
    return;
  }
  extent_[rank_] = extent;
  broadcast_[rank_++] = broadcast;
}

void Blocks::finish() {
  outer_ = std::max(0, rank_ - kMaxRank);
  for (int i = 0; i < outer_; ++i) count_ *= extent_[i];
  for (int operand = 0; operand < operands_; ++operand) {
    for (int i = outer_; i < rank_; ++i) {
      shape_[operand][i - outer_] = broadcast_[i] >> operand & 1 ? 1 : extent_[i];
    }
  }
}

Tensor Blocks::tensor(int64_t block, int index) const {
  const xla::Buffer& buffer = *buffers_[index];
  const std::span<const int64_t> shape{shape_[index], static_cast<size_t>(rank_ - outer_)};
  int64_t stride = element_count(shape), offset = 0;
  for (int i = outer_; i-- > 0; block /= extent_[i]) {
    if (broadcast_[i] >> index & 1) continue;
    offset += block % extent_[i] * stride;
    stride *= extent_[i];
  }
  const DType dtype = dtype_of(buffer);
  return {static_cast<char*>(buffer.data) + offset * size_of(dtype), dtype, shape};
}

}  // namespace mseloss::python
