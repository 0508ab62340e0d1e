#include "jax/blocks.h"

#include <algorithm>

#include "arrays/result_array.h"

namespace mseloss::python {

Blocks::Blocks(std::span<const Operand> operands, int loss) : operands_(operands), loss_(loss) {
  int64_t rank = 0;
  for (const Operand& operand : operands_) {
    rank = std::max(rank, static_cast<int64_t>(operand.shape.size()));
    empty_ = empty_ || element_count(operand.shape) == 0;
  }
  if (empty_) return;
  for (int64_t i = 0; i < rank; ++i) {
    int64_t extent = 1;
    unsigned broadcast = 0;
    for (size_t index = 0; index < operands_.size(); ++index) {
      const Operand& operand = operands_[index];
      const auto own_rank = static_cast<int64_t>(operand.shape.size());
      const int64_t at = operand.leading ? i : i - (rank - own_rank);
      const int64_t own = at < 0 || at >= own_rank ? 1 : operand.shape[at];
      if (own == 1) broadcast |= 1u << index;
      extent = std::max(extent, own);
    }
    if (extent != 1) merge(extent, broadcast);
  }
  set_strides();
  divide();
}

void Blocks::merge(int64_t extent, unsigned broadcast) {
  if (rank_ > 0 && broadcast_[rank_ - 1] == broadcast) {
    extent_[rank_ - 1] *= extent;
    return;
  }
  extent_[rank_] = extent;
  broadcast_[rank_++] = broadcast;
}

void Blocks::set_strides() {
  for (size_t index = 0; index < operands_.size(); ++index) {
    int64_t dense = 1;
    for (int i = rank_; i-- > 0;) {
      const bool broadcast = broadcast_[i] >> index & 1;
      stride_[index][i] = broadcast ? 0 : dense;
      if (!broadcast) dense *= extent_[i];
    }
  }
}

// Moves the dimensions along which the loss is broadcast, which are summed, behind the others.
void Blocks::put_slices_first() {
  int kept = 0;
  for (int i = 0; i < rank_; ++i) {
    if (broadcast_[i] >> loss_ & 1) continue;
    for (int j = i; j > kept; --j) {
      std::swap(extent_[j], extent_[j - 1]);
      std::swap(broadcast_[j], broadcast_[j - 1]);
      for (auto& strides : stride_) std::swap(strides[j], strides[j - 1]);
    }
    ++kept;
  }
  outer_ = std::max(kept, rank_ - kMaxRank);
  for (int i = kept; i < outer_; ++i) per_slice_ *= extent_[i];
}

void Blocks::divide() {
  outer_ = std::max(0, rank_ - kMaxRank);
  bool sums = false;
  for (int i = 0; i < outer_ && loss_ >= 0; ++i) sums = sums || (broadcast_[i] >> loss_ & 1);
  if (sums) put_slices_first();
  for (int i = 0; i < outer_; ++i) count_ *= extent_[i];
  for (size_t index = 0; index < operands_.size(); ++index) {
    for (int i = outer_; i < rank_; ++i) {
      shape_[index][i - outer_] = broadcast_[i] >> index & 1 ? 1 : extent_[i];
    }
  }
}

Tensor Blocks::tensor(int64_t block, int index, bool full) const {
  const Operand& operand = operands_[index];
  int64_t offset = 0;
  for (int i = outer_; i-- > 0; block /= extent_[i]) offset += block % extent_[i] * stride_[index][i];
  void* data = static_cast<char*>(operand.data) + offset * size_of(operand.dtype);
  const auto rank = static_cast<size_t>(rank_ - outer_);
  const std::span<const int64_t> shape{full ? extent_ + outer_ : shape_[index], rank};
  if (index == loss_ && element_count(shape) == 1) return {data, operand.dtype};
  return {data, operand.dtype, shape, {stride_[index] + outer_, rank}};
}

}  // namespace mseloss::python
