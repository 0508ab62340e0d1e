// How each kind of piece is moved.
#include "cpu/tile_copy.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace mseloss::cpu {
namespace {

constexpr int64_t kSplitRow = 16;  // elements; a shorter one is not worth being taken apart
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
