// Chooses how a tile is copied: in which segments or 2-D blocks, of which kind.
#include "cpu/pack/tile_packer.h"

#include <algorithm>
#include <cstdlib>

namespace mseloss::cpu {
namespace {

constexpr int64_t kMinReplicateBytes = 256;       // smaller blocks are cheaper to pack repeatedly
constexpr int64_t kMinTransposeElements = 32;     // smaller blocks are cheaper element by element
constexpr int64_t kMinStridedSide = 8;            // elements, of a strided block to be transposed
constexpr int64_t kShortLoop = 4, kLongLoop = 8;  // iterations

}  // namespace

bool TilePacker::is_prepared_for(int rank, const int64_t* extent) const {
  return rank == tile_rank_ && std::equal(extent, extent + rank, tile_extent_);
}

void TilePacker::prepare(Direction direction, int rank, const int64_t* extent, const int64_t* operand,
                         const int64_t* packed, int size) {
  kernels_ = &kernels();
  tile_rank_ = rank;
  std::copy_n(extent, rank, tile_extent_);
  size_ = size;
  direction_ = direction;
  int64_t compact[kMaxRank];
  rank = find_replication(rank, extent, operand, packed, compact);
  merge_dimensions(rank, extent, operand, compact);
  choose_kind();
  PackDimension others[kMaxRank];
  int count = 0;
  for (int d = 0; d < rank_; ++d) {
    if (d == column_ || d == row_) continue;
    // In the order of the operand's strides: segments that share cache lines follow each other.
    int at = count++;
    for (; at > 0 && operand_distance(others[at - 1]) > operand_distance(dims_[d]); --at)
      others[at] = others[at - 1];
    others[at] = dims_[d];
  }
  segments_.build(others, count, size_);
}

// An operand that is broadcast along the innermost dimensions is packed without them, at the end of the
// packed tile, and replicated from there, or directly from the operand if its elements are contiguous.
// Returns the number of dimensions to pack; `compact` receives their strides.
int TilePacker::find_replication(int rank, const int64_t* extent, const int64_t* operand,
                                 const int64_t* packed, int64_t* compact) {
  copies_ = 1;
  while (rank > 0 && (extent[rank - 1] == 1 || (operand[rank - 1] == 0 && packed[rank - 1] == copies_))) {
    copies_ *= extent[--rank];
  }
  pitch_ = rank > 0 && copies_ > 1 ? packed[rank - 1] : copies_;
  rows_ = 1;
  for (int d = 0; d < rank; ++d) {
    compact[d] = packed[d] / pitch_;
    rows_ *= extent[d];
  }
  return rank;
}

void TilePacker::merge_dimensions(int rank, const int64_t* extent, const int64_t* operand,
                                  const int64_t* packed) {
  rank_ = repeats_ = 0;
  for (int d = rank; d-- > 0;) {
    if (extent[d] == 1) continue;
    PackDimension next{extent[d], operand[d], packed[d]};
    if (operand[d] == 0 && packed[d] > 1 && extent[d] * packed[d] * size_ >= kMinReplicateBytes) {
      repeat_[repeats_++] = next;
      continue;
    }
    if (direction_ != Direction::kPack) std::swap(next.from, next.to);
    PackDimension* last = rank_ == 0 ? nullptr : &dims_[rank_ - 1];
    if (last != nullptr && last->from * last->extent == next.from && last->to * last->extent == next.to) {
      last->extent *= next.extent;
    } else {
      dims_[rank_++] = next;
    }
  }
  if (rank_ == 0) dims_[rank_++] = {1, 1, 1};
}

ptrdiff_t TilePacker::operand_stride(const PackDimension& dimension) const {
  return direction_ == Direction::kPack ? dimension.from : dimension.to;
}

ptrdiff_t TilePacker::operand_distance(const PackDimension& dimension) const {
  return std::abs(operand_stride(dimension));
}

// Whether the operand has a small stride along a dimension, and enough elements.
bool TilePacker::is_strided(const PackDimension& dimension) const {
  const ptrdiff_t stride = operand_stride(dimension);
  return stride > 1 && stride <= kernels_->max_stride[element_size_index(size_)] &&
         dimension.extent >= 2 * size_;
}

void TilePacker::choose_kind() {
  column_ = 0;
  row_ = -1;
  const PackDimension& column = dims_[0];
  if (column.from == 1 && column.to == 1) {
    kind_ = Kind::kContiguous;
    return;
  }
  if ((direction_ == Direction::kPack ? column.to : column.from) != 1) return choose_element_block();
  int near = 0;
  for (int d = 1; d < rank_; ++d) {
    const ptrdiff_t distance = operand_distance(dims_[d]);
    if (distance != 0 && (near == 0 || distance < operand_distance(dims_[near]))) near = d;
  }
  const PackDimension& row = dims_[near];
  if (near != 0 && operand_stride(row) == 1 && row.extent * column.extent >= kMinTransposeElements) {
    kind_ = Kind::kTranspose;
    row_ = near;
  } else if (is_strided(column)) {
    kind_ = Kind::kStrided;
  } else if (near != 0 && size_ < 8 && std::min(row.extent, column.extent) >= kMinStridedSide &&
             is_strided(row)) {
    kind_ = Kind::kStridedTranspose;
    row_ = near;
  } else {
    choose_element_block();
  }
}

// The inner loop runs along the operand's smallest stride, to reuse its cache lines, unless that dimension is
// too short. The outer loop runs along the dimension with the next smallest stride among those of at least
// kLongLoop iterations, or along the longest one if there is none.
void TilePacker::choose_element_block() {
  kind_ = Kind::kElements;
  column_ = -1;
  for (int d = 0; d < rank_; ++d) {
    const ptrdiff_t distance = operand_distance(dims_[d]);
    if (distance != 0 && (column_ < 0 || distance < operand_distance(dims_[column_]))) column_ = d;
  }
  const auto better = [&](const PackDimension& a, const PackDimension& b) {
    if (std::min(a.extent, b.extent) < kLongLoop) return a.extent > b.extent;
    return operand_distance(a) < operand_distance(b);
  };
  const auto best = [&](int other) {
    int found = -1;
    for (int d = 0; d < rank_; ++d) {
      if (d != other && (found < 0 || better(dims_[d], dims_[found]))) found = d;
    }
    return found;
  };
  if (column_ < 0 || dims_[column_].extent < kShortLoop) column_ = best(-1);
  row_ = best(column_);
}

}  // namespace mseloss::cpu
