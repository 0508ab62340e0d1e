// Which pieces a box is copied in.
#include "cpu/tile_copy.h"

#include <algorithm>
#include <cstdlib>

namespace mseloss::cpu {
namespace {

// Elements, but for bytes.
constexpr int64_t kRepeatBytes = 256;             // less is cheaper piece by piece
constexpr int64_t kSmallPlane = 32;               // less is cheaper one by one
constexpr int64_t kSpacedSide = 8;                // of a plane to be turned
constexpr int64_t kShortLine = 4, kLongLine = 8;  // of a loop

}  // namespace

bool TileCopy::fits(int rank, const int64_t* extent) const {
  return rank == box_rank_ && std::equal(extent, extent + rank, box_);
}

void TileCopy::prepare(Way way, int rank, const int64_t* extent, const int64_t* operand, const int64_t* tile,
                       int size) {
  kernels_ = &kernels();
  box_rank_ = rank;
  std::copy_n(extent, rank, box_);
  size_ = size;
  way_ = way;
  int64_t compact[kMaxRank];
  rank = find_repetition(rank, extent, operand, tile, compact);
  merge_dimensions(rank, extent, operand, compact);
  choose_piece();
  CopyDimension others[kMaxRank];
  int count = 0;
  for (int d = 0; d < rank_; ++d) {
    if (d == column_ || d == row_) continue;
    // Pieces that share the operand's cache lines follow each other.
    int at = count++;
    for (; at > 0 && operand_distance(others[at - 1]) > operand_distance(dims_[d]); --at)
      others[at] = others[at - 1];
    others[at] = dims_[d];
  }
  pieces_.list(others, count, size_);
}

// An operand that stands still along the tile's innermost dimensions is gathered without them, to the end of
// the tile, and spread from there; or from where it is, if that is one run. Returns how many dimensions are
// gathered, with which strides.
int TileCopy::find_repetition(int rank, const int64_t* extent, const int64_t* operand, const int64_t* tile,
                              int64_t* compact) {
  copies_ = 1;
  while (rank > 0 && (extent[rank - 1] == 1 || (operand[rank - 1] == 0 && tile[rank - 1] == copies_))) {
    copies_ *= extent[--rank];
  }
  pitch_ = rank > 0 && copies_ > 1 ? tile[rank - 1] : copies_;
  rows_ = 1;
  for (int d = 0; d < rank; ++d) {
    compact[d] = tile[d] / pitch_;
    rows_ *= extent[d];
  }
  return rank;
}

void TileCopy::merge_dimensions(int rank, const int64_t* extent, const int64_t* operand,
                                const int64_t* tile) {
  rank_ = repeats_ = 0;
  for (int d = rank; d-- > 0;) {
    if (extent[d] == 1) continue;
    CopyDimension next{extent[d], operand[d], tile[d]};
    if (operand[d] == 0 && tile[d] > 1 && extent[d] * tile[d] * size_ >= kRepeatBytes) {
      repeat_[repeats_++] = next;
      continue;
    }
    if (way_ != Way::kGather) std::swap(next.from, next.to);
    CopyDimension* last = rank_ == 0 ? nullptr : &dims_[rank_ - 1];
    if (last != nullptr && last->from * last->extent == next.from && last->to * last->extent == next.to) {
      last->extent *= next.extent;
    } else {
      dims_[rank_++] = next;
    }
  }
  if (rank_ == 0) dims_[rank_++] = {1, 1, 1};
}

ptrdiff_t TileCopy::operand_stride(const CopyDimension& dimension) const {
  return way_ == Way::kGather ? dimension.from : dimension.to;
}

ptrdiff_t TileCopy::operand_distance(const CopyDimension& dimension) const {
  return std::abs(operand_stride(dimension));
}

// Whether the operand has an element at every second, third, ... place, and enough of them.
bool TileCopy::is_spaced(const CopyDimension& dimension) const {
  const ptrdiff_t stride = operand_stride(dimension);
  return stride > 1 && stride <= kernels_->most_stride[size_ / 4] && dimension.extent >= 2 * size_;
}

void TileCopy::choose_piece() {
  column_ = 0;
  row_ = -1;
  const CopyDimension& column = dims_[0];
  if (column.from == 1 && column.to == 1) {
    kind_ = Kind::kRun;
    return;
  }
  if ((way_ == Way::kGather ? column.to : column.from) != 1) return choose_plane();
  int near = 0;
  for (int d = 1; d < rank_; ++d) {
    const ptrdiff_t distance = operand_distance(dims_[d]);
    if (distance != 0 && (near == 0 || distance < operand_distance(dims_[near]))) near = d;
  }
  const CopyDimension& row = dims_[near];
  if (near != 0 && operand_stride(row) == 1 && row.extent * column.extent >= kSmallPlane) {
    kind_ = Kind::kTurn;
    row_ = near;
  } else if (is_spaced(column)) {
    kind_ = Kind::kSpaced;
  } else if (near != 0 && size_ < 8 && std::min(row.extent, column.extent) >= kSpacedSide && is_spaced(row)) {
    kind_ = Kind::kTurnSpaced;
    row_ = near;
  } else {
    choose_plane();
  }
}

// The inner loop along the operand's shortest stride, for the sake of its cache lines, if that is not too
// short a loop; the outer one along the nearest dimension that is long, or the longest.
void TileCopy::choose_plane() {
  kind_ = Kind::kPlane;
  column_ = -1;
  for (int d = 0; d < rank_; ++d) {
    const ptrdiff_t distance = operand_distance(dims_[d]);
    if (distance != 0 && (column_ < 0 || distance < operand_distance(dims_[column_]))) column_ = d;
  }
  const auto better = [&](const CopyDimension& a, const CopyDimension& b) {
    if (std::min(a.extent, b.extent) < kLongLine) return a.extent > b.extent;
    return operand_distance(a) < operand_distance(b);
  };
  const auto best = [&](int other) {
    int found = -1;
    for (int d = 0; d < rank_; ++d) {
      if (d != other && (found < 0 || better(dims_[d], dims_[found]))) found = d;
    }
    return found;
  };
  if (column_ < 0 || dims_[column_].extent < kShortLine) column_ = best(-1);
  row_ = best(column_);
}

}  // namespace mseloss::cpu
