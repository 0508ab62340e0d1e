#include "cpu/tile_copy.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace mseloss::cpu {
namespace {

// Elements, but for bytes.
constexpr int64_t kRepeatBytes = 256;             // less is cheaper piece by piece
constexpr int64_t kSmallPlane = 32;               // less is cheaper one by one
constexpr int64_t kSplitRow = 16;                 // a shorter one is not worth being taken apart
constexpr int64_t kSpacedSide = 8;                // of a plane to be turned
constexpr int64_t kShortLine = 4, kLongLine = 8;  // of a loop
constexpr int64_t kStageRowBytes = 512, kStageBytes = 18 * 1024;
constexpr int64_t kLineBytes = 64, kAheadBytes = 8192;

// Calls f(T()) with the unsigned integer type of `size` bytes.
template <class F>
void with_element(int64_t size, F f) {
  if (size == 2) return f(uint16_t());
  if (size == 4) return f(uint32_t());
  return f(uint64_t());
}

// Rows x columns elements. Strides in bytes.
struct Plane {
  ptrdiff_t from_row, from_column, to_row, to_column;
  int64_t rows, columns;
};

// What is asked for while a row of a plane is copied: so many lines, a step apart; in bytes.
struct Ahead {
  ptrdiff_t row, step;
  int64_t lines;
};

// Inlined, its loops would be short of registers.
template <class T>
[[gnu::noinline]] void copy_plane(const char* from, char* to, Plane plane, const char* later, Ahead ahead) {
  for (int64_t i = 0; i < plane.rows; ++i, later += ahead.row) {
    for (int64_t k = 0; k < ahead.lines; ++k) __builtin_prefetch(later + k * ahead.step);
    const char* source = from + i * plane.from_row;
    char* sink = to + i * plane.to_row;
#pragma GCC unroll 4
    for (int64_t j = 0; j < plane.columns; ++j, source += plane.from_column, sink += plane.to_column) {
      std::memcpy(sink, source, sizeof(T));
    }
  }
}

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
  const auto best = [&](int other) {
    int found = -1;
    for (int d = 0; d < rank_; ++d) {
      if (d == other) continue;
      const CopyDimension& dimension = dims_[d];
      if (found < 0) {
        found = d;
      } else if (std::min(dimension.extent, dims_[found].extent) >= kLongLine) {
        if (operand_distance(dimension) < operand_distance(dims_[found])) found = d;
      } else if (dimension.extent > dims_[found].extent) {
        found = d;
      }
    }
    return found;
  };
  if (column_ < 0 || dims_[column_].extent < kShortLine) column_ = best(-1);
  row_ = best(column_);
}

void TileCopy::copy_runs(const char* from, char* to) const {
  const auto bytes = static_cast<size_t>(dims_[0].extent * size_);
  pieces_.for_each_list([&](const Piece* pieces, size_t count, ptrdiff_t source, ptrdiff_t sink) {
    kernels_->copy_runs(pieces, count, from + source, to + sink, bytes, way_);
  });
}

void TileCopy::move_spaced(const Piece* pieces, size_t count, const char* from, char* to,
                           const CopyDimension& spaced, int64_t n) const {
  if (way_ == Way::kGather) {
    kernels_->take[size_ / 4](pieces, count, from, spaced.from, to, static_cast<size_t>(n));
  } else {
    kernels_->give[size_ / 4](pieces, count, from, to, spaced.to, static_cast<size_t>(n));
  }
}

void TileCopy::copy_spaced(const char* from, char* to) const {
  pieces_.for_each_list([&](const Piece* pieces, size_t count, ptrdiff_t source, ptrdiff_t sink) {
    move_spaced(pieces, count, from + source, to + sink, dims_[0], dims_[0].extent);
  });
}

void TileCopy::turn_planes(const char* from, char* to) const {
  // Along i the one side is contiguous, along j the other.
  const bool gather = way_ == Way::kGather;
  const CopyDimension i = dims_[gather ? row_ : 0], j = dims_[gather ? 0 : row_];
  const auto rows = static_cast<size_t>(i.extent), columns = static_cast<size_t>(j.extent);
  const int log2 = size_ / 4;
  if (j.from > 1 && j.from <= kMaxSplit && i.extent <= j.from && j.extent >= kSplitRow) {
    return pieces_.for_each([&](ptrdiff_t source, ptrdiff_t sink) {
      kernels_->split[log2](from + source, j.from, to + sink, i.to, rows, columns);
    });
  }
  if (i.to == j.extent && j.extent > 1 && j.extent <= kMaxSplit && i.extent >= kSplitRow) {
    return pieces_.for_each([&](ptrdiff_t source, ptrdiff_t sink) {
      kernels_->merge[log2](from + source, j.from, to + sink, rows, columns);
    });
  }
  ptrdiff_t last = 1;
  for (int d = 0; d < rank_; ++d) last += std::max<ptrdiff_t>(dims_[d].from, 0) * (dims_[d].extent - 1);
  const char* const end = from + last * size_;
  pieces_.for_each_list([&](const Piece* pieces, size_t count, ptrdiff_t source, ptrdiff_t sink) {
    kernels_->transpose[log2](pieces, count, from + source, j.from, to + sink, i.to, rows, columns, end,
                              way_);
  });
}

// By way of a stage, in which the operand's elements are neighbours.
void TileCopy::turn_spaced_planes(const char* from, char* to) const {
  const CopyDimension line = dims_[row_], column = dims_[0];
  const int64_t rows = std::min(line.extent, kStageRowBytes / size_), pitch = rows + kLineBytes / size_;
  const int64_t columns = std::min(column.extent, kStageBytes / size_ / pitch);
  const bool gather = way_ == Way::kGather;
  alignas(kLineBytes) char stage[kStageBytes];
  Piece spaced[kStageBytes / kLineBytes];
  for (int64_t k = 0; k < columns; ++k) {
    const ptrdiff_t staged = k * pitch * size_;
    spaced[k] = gather ? Piece{k * column.from * size_, staged} : Piece{staged, k * column.to * size_};
  }
  const auto block = [&](const char* source, char* sink, int64_t m, int64_t n) {
    const Piece whole{0, 0};
    const auto turn = kernels_->transpose[size_ / 4];
    const auto i = static_cast<size_t>(m), j = static_cast<size_t>(n);
    if (gather) {
      move_spaced(spaced, j, source, stage, line, m);
      turn(&whole, 1, stage, pitch, sink, line.to, i, j, stage + kStageBytes, Way::kScatter);
    } else {
      const char* const end = source + ((m - 1) * line.from + n) * size_;
      turn(&whole, 1, source, line.from, stage, pitch, j, i, end, Way::kScatter);
      move_spaced(spaced, j, stage, sink, line, m);
    }
  };
  pieces_.for_each([&](ptrdiff_t source, ptrdiff_t sink) {
    for (int64_t i = 0; i < line.extent; i += rows) {
      for (int64_t j = 0; j < column.extent; j += columns) {
        block(from + source + (i * line.from + j * column.from) * size_,
              to + sink + (i * line.to + j * column.to) * size_, std::min(rows, line.extent - i),
              std::min(columns, column.extent - j));
      }
    }
  });
}

void TileCopy::copy_planes(const char* from, char* to) const {
  const CopyDimension column = dims_[column_], outer = row();
  const Plane plane{outer.from * size_, column.from * size_, outer.to * size_,
                    column.to * size_,  outer.extent,        column.extent};
  // Of the operand, of rows further on.
  Ahead ahead{operand_stride(outer) * size_, operand_stride(column) * size_, column.extent};
  if (std::abs(ahead.step) < kLineBytes) {
    ahead.lines = (std::abs(ahead.step) * column.extent + kLineBytes - 1) / kLineBytes;
    ahead.step = ahead.step < 0 ? -kLineBytes : kLineBytes;
  }
  // Where rows lie closer than a row's elements, or in one place, what is further on comes soon enough.
  if (std::abs(ahead.row) < std::abs(ahead.step)) ahead.lines = 0;
  const ptrdiff_t distance =
      ahead.lines == 0 ? 0 : ahead.row * (kAheadBytes / (kLineBytes * ahead.lines) + 1);
  with_element(size_, [&](auto element) {
    pieces_.for_each([&](ptrdiff_t source, ptrdiff_t sink) {
      const char* later = (way_ == Way::kGather ? from + source : to + sink) + distance;
      copy_plane<decltype(element)>(from + source, to + sink, plane, later, ahead);
    });
  });
}

// Whole blocks, the innermost first, twice as many each time.
void TileCopy::repeat(char* tile) const {
  for (int r = 0; r < repeats_; ++r) {
    const int64_t block = repeat_[r].to * size_, all = block * repeat_[r].extent;
    int outer = 0;
    while (outer < rank_ && dims_[outer].to < repeat_[r].to) ++outer;
    for_each_index(dims_ + outer, rank_ - outer, [&](ptrdiff_t, ptrdiff_t at) {
      char* first = tile + at * size_;
      for (int64_t done = block; done < all; done *= 2) {
        std::memcpy(first + done, first, static_cast<size_t>(std::min(done, all - done)));
      }
    });
  }
}

void TileCopy::spread(const char* from, char* tile) const {
  kernels_->spread[size_ / 4](from, tile, static_cast<size_t>(rows_), static_cast<size_t>(copies_),
                              static_cast<size_t>(pitch_));
}

void TileCopy::copy(const char* from, char* tile) const {
  const bool one_run = kind_ == Kind::kRun && dims_[0].extent == rows_;
  if (copies_ > 1 && one_run) return spread(from, tile);
  char* to = tile + rows_ * (pitch_ - 1) * size_;
  switch (kind_) {
    case Kind::kRun:
      copy_runs(from, to);
      break;
    case Kind::kSpaced:
      copy_spaced(from, to);
      break;
    case Kind::kTurn:
      turn_planes(from, to);
      break;
    case Kind::kTurnSpaced:
      turn_spaced_planes(from, to);
      break;
    case Kind::kPlane:
      copy_planes(from, to);
      break;
  }
  repeat(to);
  if (copies_ > 1) spread(to, tile);
}

}  // namespace mseloss::cpu
