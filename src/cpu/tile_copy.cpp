#include "cpu/tile_copy.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace mseloss::cpu {
namespace {

constexpr int64_t kRepeatBytes = 256;  // less is cheaper piece by piece
constexpr int64_t kLongRow = 64;       // elements; a row that is worth a loop of its own
constexpr int64_t kSmallPlane = 32;    // elements; less is cheaper one by one
constexpr int64_t kSplitRow = 16;      // elements; shorter rows are not worth being taken apart

// Calls f(T()) with the unsigned integer type of `size` bytes.
template <class F>
void with_element(int64_t size, F f) {
  if (size == 2) return f(uint16_t());
  if (size == 4) return f(uint32_t());
  return f(uint64_t());
}

// Rows x columns elements. Strides in elements.
struct Plane {
  ptrdiff_t from_row, from_column, to_row, to_column;
  int64_t rows, columns;
};

template <class T>
void copy_plane(const char* from, char* to, const Plane& plane) {
  constexpr ptrdiff_t kSize = sizeof(T);
  const ptrdiff_t from_step = plane.from_column * kSize, to_step = plane.to_column * kSize;
  for (int64_t i = 0; i < plane.rows; ++i) {
    const char* source = from + i * plane.from_row * kSize;
    char* sink = to + i * plane.to_row * kSize;
#pragma GCC unroll 4
    for (int64_t j = 0; j < plane.columns; ++j, source += from_step, sink += to_step) {
      std::memcpy(sink, source, kSize);
    }
  }
}

}  // namespace

bool TileCopy::fits(int rank, const int64_t* extent) const {
  return rank == box_rank_ && std::equal(extent, extent + rank, box_);
}

void TileCopy::prepare(Way way, int rank, const int64_t* extent, const int64_t* operand, const int64_t* tile,
                       int size) {
  box_rank_ = rank;
  std::copy_n(extent, rank, box_);
  size_ = size;
  way_ = way;
  int64_t compact[kMaxRank];
  rank = find_repetition(rank, extent, operand, tile, compact);
  merge_dimensions(rank, extent, operand, compact);
  kind_ = choose_kind();
  const bool plane = kind_ == Kind::kPlane || kind_ == Kind::kTurn;
  others_count_ = 0;
  for (int d = kind_ == Kind::kElement ? 0 : 1; d < rank_; ++d) {
    if (!plane || d != row_) others_[others_count_++] = dims_[d];
  }
  // Pieces that share the operand's cache lines follow each other.
  std::sort(others_, others_ + others_count_, [&](const Dimension& a, const Dimension& b) {
    return operand_distance(a) < operand_distance(b);
  });
  list_pieces();
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
    Dimension next{extent[d], operand[d], tile[d]};
    if (operand[d] == 0 && tile[d] > 1 && extent[d] * tile[d] * size_ >= kRepeatBytes) {
      repeat_[repeats_++] = next;
      continue;
    }
    if (way_ != Way::kGather) std::swap(next.from, next.to);
    Dimension* last = rank_ == 0 ? nullptr : &dims_[rank_ - 1];
    if (last != nullptr && last->from * last->extent == next.from && last->to * last->extent == next.to) {
      last->extent *= next.extent;
    } else {
      dims_[rank_++] = next;
    }
  }
  if (rank_ == 0) dims_[rank_++] = {1, 1, 1};
}

// Every second, third or fourth element.
bool TileCopy::splits_rows(const Dimension& column) {
  return column.to == 1 && column.from > 1 && column.from <= kMaxSplit && column.extent >= kSplitRow;
}

ptrdiff_t TileCopy::operand_distance(const Dimension& dimension) const {
  return std::abs(way_ == Way::kGather ? dimension.from : dimension.to);
}

TileCopy::Kind TileCopy::choose_kind() {
  row_ = 0;
  for (int d = 1; d < rank_; ++d) {
    const ptrdiff_t distance = operand_distance(dims_[d]);
    if (distance != 0 && (row_ == 0 || distance < operand_distance(dims_[row_]))) row_ = d;
  }
  const Dimension& column = dims_[0];
  if (column.from == 1 && column.to == 1) return Kind::kRun;
  const Dimension& row = dims_[row_];
  if (row_ != 0 && row.extent * column.extent >= kSmallPlane &&
      ((row.from == 1 && column.to == 1) || (row.to == 1 && column.from == 1))) {
    return Kind::kTurn;
  }
  return splits_rows(column) || column.extent >= kLongRow ? Kind::kPlane : Kind::kElement;
}

// The places of as many pieces as fit.
void TileCopy::list_pieces() {
  int64_t count = 1;
  pieces_[0] = {0, 0};
  const auto add = [&](const Dimension& dimension, int64_t extent) {
    for (int64_t k = 1; k < extent; ++k) {
      for (int64_t i = 0; i < count; ++i) {
        pieces_[k * count + i] = {pieces_[i].from + k * dimension.from * size_,
                                  pieces_[i].to + k * dimension.to * size_};
      }
    }
    count *= extent;
  };
  for (listed_ = 0; listed_ < others_count_; ++listed_) {
    const Dimension& dimension = others_[listed_];
    inner_ = count;
    if (dimension.extent > kPieces / count) {
      chunk_ = kPieces / count;
      return add(dimension, chunk_);
    }
    add(dimension, dimension.extent);
  }
  inner_ = count;
  chunk_ = 1;
}

// Calls f(from, to), in elements, for every index of the dimensions from `first` to `last`.
template <class F>
void TileCopy::for_each_index(const Dimension* first, const Dimension* last, F f) {
  int64_t index[kMaxRank] = {};
  ptrdiff_t from = 0, to = 0;
  for (;;) {
    f(from, to);
    const Dimension* d = first;
    for (; d < last; ++d) {
      from += d->from;
      to += d->to;
      if (++index[d - first] < d->extent) break;
      from -= d->from * d->extent;
      to -= d->to * d->extent;
      index[d - first] = 0;
    }
    if (d >= last) return;
  }
}

// Calls f(count, from, to): so many pieces of the list, from there, in bytes.
template <class F>
void TileCopy::for_each_list(F f) const {
  const Dimension part = listed_ < others_count_ ? others_[listed_] : Dimension{1, 0, 0};
  for_each_index(others_ + std::min(listed_ + 1, others_count_), others_ + others_count_,
                 [&](ptrdiff_t from, ptrdiff_t to) {
                   for (int64_t k = 0; k < part.extent; k += chunk_) {
                     f(std::min(chunk_, part.extent - k) * inner_, (from + k * part.from) * size_,
                       (to + k * part.to) * size_);
                   }
                 });
}

// Calls f(from, to) for each piece.
template <class F>
void TileCopy::for_each_piece(const char* from, char* to, F f) const {
  for_each_list([&](int64_t count, ptrdiff_t from_list, ptrdiff_t to_list) {
    for (int64_t i = 0; i < count; ++i) f(from + from_list + pieces_[i].from, to + to_list + pieces_[i].to);
  });
}

void TileCopy::copy_runs(const char* from, char* to) const {
  const auto bytes = static_cast<size_t>(dims_[0].extent * size_);
  for_each_list([&](int64_t count, ptrdiff_t from_list, ptrdiff_t to_list) {
    kernels().copy_runs(pieces_, static_cast<size_t>(count), from + from_list, to + to_list, bytes, way_);
  });
}

void TileCopy::copy_planes(const char* from, char* to) const {
  const Dimension row = row_ == 0 ? Dimension{1, 0, 0} : dims_[row_], column = dims_[0];
  if (splits_rows(column)) {
    return for_each_piece(from, to, [&](const char* a, char* b) {
      for (int64_t i = 0; i < row.extent; ++i) {
        kernels().split[size_ / 4](a + i * row.from * size_, column.from, b + i * row.to * size_, row.to, 1,
                                   static_cast<size_t>(column.extent));
      }
    });
  }
  Plane plane{row.from, column.from, row.to, column.to, row.extent, column.extent};
  // The inner loop runs along the operand's shorter stride, for the sake of its cache lines, if that is long.
  if (row.extent * size_ >= 16 && operand_distance(row) < operand_distance(column)) {
    plane = {column.from, row.from, column.to, row.to, column.extent, row.extent};
  }
  with_element(size_, [&](auto element) {
    for_each_piece(from, to, [&](const char* a, char* b) { copy_plane<decltype(element)>(a, b, plane); });
  });
}

void TileCopy::turn_planes(const char* from, char* to) const {
  // Along i the one side is contiguous, along j the other.
  const bool by_row = dims_[row_].from == 1 && dims_[0].to == 1;
  const Dimension i = by_row ? dims_[row_] : dims_[0], j = by_row ? dims_[0] : dims_[row_];
  const auto rows = static_cast<size_t>(i.extent), columns = static_cast<size_t>(j.extent);
  const int log2 = size_ / 4;
  if (j.from > 1 && j.from <= kMaxSplit && i.extent <= j.from && j.extent >= kSplitRow) {
    return for_each_piece(
        from, to, [&](const char* a, char* b) { kernels().split[log2](a, j.from, b, i.to, rows, columns); });
  }
  if (i.to == j.extent && j.extent > 1 && j.extent <= kMaxSplit && i.extent >= kSplitRow) {
    return for_each_piece(
        from, to, [&](const char* a, char* b) { kernels().merge[log2](a, j.from, b, rows, columns); });
  }
  ptrdiff_t last = 1;
  for (int d = 0; d < rank_; ++d) last += std::max<ptrdiff_t>(dims_[d].from, 0) * (dims_[d].extent - 1);
  const char* const end = from + last * size_;
  for_each_list([&](int64_t count, ptrdiff_t from_list, ptrdiff_t to_list) {
    kernels().transpose[log2](pieces_, static_cast<size_t>(count), from + from_list, j.from, to + to_list,
                              i.to, rows, columns, end, way_);
  });
}

// Whole blocks, the innermost first, twice as many each time.
void TileCopy::repeat(char* tile) const {
  for (int r = 0; r < repeats_; ++r) {
    const int64_t block = repeat_[r].to * size_, all = block * repeat_[r].extent;
    int outer = 0;
    while (outer < rank_ && dims_[outer].to < repeat_[r].to) ++outer;
    for_each_index(dims_ + outer, dims_ + rank_, [&](ptrdiff_t, ptrdiff_t at) {
      char* first = tile + at * size_;
      for (int64_t done = block; done < all; done *= 2) {
        std::memcpy(first + done, first, static_cast<size_t>(std::min(done, all - done)));
      }
    });
  }
}

void TileCopy::spread(const char* from, char* tile) const {
  kernels().spread[size_ / 4](from, tile, static_cast<size_t>(rows_), static_cast<size_t>(copies_),
                              static_cast<size_t>(pitch_));
}

void TileCopy::copy(const char* from, char* tile) const {
  const bool one_run = kind_ == Kind::kRun && dims_[0].extent == rows_;
  if (copies_ > 1 && one_run) return spread(from, tile);
  char* to = tile + rows_ * (pitch_ - 1) * size_;
  switch (kind_) {
    case Kind::kElement:
      with_element(size_, [&](auto element) {
        for_each_piece(from, to, [](const char* a, char* b) { std::memcpy(b, a, sizeof(element)); });
      });
      break;
    case Kind::kRun:
      copy_runs(from, to);
      break;
    case Kind::kPlane:
      copy_planes(from, to);
      break;
    case Kind::kTurn:
      turn_planes(from, to);
      break;
  }
  repeat(to);
  if (copies_ > 1) spread(to, tile);
}

}  // namespace mseloss::cpu
