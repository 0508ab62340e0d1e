// TilePacker::copy(): how each kind of segment or block is copied.
#include "cpu/pack/tile_packer.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace mseloss::cpu {
namespace {

constexpr int64_t kMinInterleaveElements = 16;  // shorter rows are cheaper to transpose
constexpr int64_t kStageRowBytes = 512;         // 8 cache lines; the staging buffer has 32 such rows

// Calls f(T()) with the unsigned integer type of `size` bytes.
template <class F>
void with_element(int64_t size, F f) {
  if (size == 1) return f(uint8_t());
  if (size == 2) return f(uint16_t());
  if (size == 4) return f(uint32_t());
  return f(uint64_t());
}

// rows x columns elements; strides in bytes.
struct Block {
  ptrdiff_t from_row, from_column, to_row, to_column;
  int64_t rows, columns;
};

// Cache lines to prefetch during each row of a block: `lines` lines, `step` bytes apart; those of the next
// row are `row` bytes further.
struct Prefetch {
  ptrdiff_t row, step;
  int64_t lines;
};

// Not inlined: its loops would run out of registers.
template <class T>
[[gnu::noinline]] void copy_block(const char* from, char* to, Block block, const char* later,
                                  Prefetch prefetch) {
  for (int64_t i = 0; i < block.rows; ++i, later += prefetch.row) {
    for (int64_t k = 0; k < prefetch.lines; ++k) __builtin_prefetch(later + k * prefetch.step);
    const char* source = from + i * block.from_row;
    char* sink = to + i * block.to_row;
#pragma GCC unroll 4
    for (int64_t j = 0; j < block.columns; ++j, source += block.from_column, sink += block.to_column) {
      std::memcpy(sink, source, sizeof(T));
    }
  }
}

}  // namespace

void TilePacker::copy_contiguous(const char* from, char* to) const {
  const auto bytes = static_cast<size_t>(dims_[0].extent * size_);
  segments_.for_each_list([&](const Segment* segments, size_t count, ptrdiff_t source, ptrdiff_t sink) {
    kernels_->copy_segments(segments, count, from + source, to + sink, bytes, direction_);
  });
}

void TilePacker::copy_strided_segments(const Segment* segments, size_t count, const char* from, char* to,
                                       const PackDimension& strided, int64_t n) const {
  const int index = element_size_index(size_);
  if (direction_ == Direction::kPack) {
    kernels_->load_strided[index](segments, count, from, strided.from, to, static_cast<size_t>(n));
  } else {
    kernels_->store_strided[index](segments, count, from, to, strided.to, static_cast<size_t>(n));
  }
}

void TilePacker::copy_strided(const char* from, char* to) const {
  segments_.for_each_list([&](const Segment* segments, size_t count, ptrdiff_t source, ptrdiff_t sink) {
    copy_strided_segments(segments, count, from + source, to + sink, dims_[0], dims_[0].extent);
  });
}

void TilePacker::transpose(const char* from, char* to) const {
  // `from` is contiguous along i, `to` along j.
  const bool pack = direction_ == Direction::kPack;
  const PackDimension i = dims_[pack ? row_ : 0], j = dims_[pack ? 0 : row_];
  const auto rows = static_cast<size_t>(i.extent), columns = static_cast<size_t>(j.extent);
  const int index = element_size_index(size_);
  if (size_ > 1 && j.from > 1 && j.from <= kMaxInterleave && i.extent <= j.from &&
      j.extent >= kMinInterleaveElements) {
    return segments_.for_each([&](ptrdiff_t source, ptrdiff_t sink) {
      kernels_->deinterleave[index](from + source, j.from, to + sink, i.to, rows, columns);
    });
  }
  if (size_ > 1 && i.to == j.extent && j.extent > 1 && j.extent <= kMaxInterleave &&
      i.extent >= kMinInterleaveElements) {
    return segments_.for_each([&](ptrdiff_t source, ptrdiff_t sink) {
      kernels_->interleave[index](from + source, j.from, to + sink, rows, columns);
    });
  }
  ptrdiff_t last = 1;
  for (int d = 0; d < rank_; ++d) last += std::max<ptrdiff_t>(dims_[d].from, 0) * (dims_[d].extent - 1);
  const char* const end = from + last * size_;
  segments_.for_each_list([&](const Segment* segments, size_t count, ptrdiff_t source, ptrdiff_t sink) {
    kernels_->transpose[index](segments, count, from + source, j.from, to + sink, i.to, rows, columns, end,
                               direction_);
  });
}

// Through a staging buffer in which the operand's elements are contiguous.
void TilePacker::transpose_strided(const char* from, char* to, char* stage) const {
  const PackDimension row = dims_[row_], column = dims_[0];
  const int64_t rows = std::min(row.extent, kStageRowBytes / size_), pitch = rows + kLineBytes / size_;
  const int64_t columns = std::min(column.extent, kStageBytes / size_ / pitch);
  const bool pack = direction_ == Direction::kPack;
  Segment strided[kStageBytes / kLineBytes];
  for (int64_t k = 0; k < columns; ++k) {
    const ptrdiff_t staged = k * pitch * size_;
    strided[k] = pack ? Segment{k * column.from * size_, staged} : Segment{staged, k * column.to * size_};
  }
  const auto block = [&](const char* source, char* sink, int64_t m, int64_t n) {
    const Segment whole{0, 0};
    const auto transpose = kernels_->transpose[element_size_index(size_)];
    const auto i = static_cast<size_t>(m), j = static_cast<size_t>(n);
    if (pack) {
      copy_strided_segments(strided, j, source, stage, row, m);
      // kUnpack: the staging buffer is in L1 and needs no prefetch.
      transpose(&whole, 1, stage, pitch, sink, row.to, i, j, stage + kStageBytes, Direction::kUnpack);
    } else {
      const char* const end = source + ((m - 1) * row.from + n) * size_;
      transpose(&whole, 1, source, row.from, stage, pitch, j, i, end, Direction::kUnpack);
      copy_strided_segments(strided, j, stage, sink, row, m);
    }
  };
  segments_.for_each([&](ptrdiff_t source, ptrdiff_t sink) {
    for (int64_t i = 0; i < row.extent; i += rows) {
      for (int64_t j = 0; j < column.extent; j += columns) {
        block(from + source + (i * row.from + j * column.from) * size_,
              to + sink + (i * row.to + j * column.to) * size_, std::min(rows, row.extent - i),
              std::min(columns, column.extent - j));
      }
    }
  });
}

void TilePacker::copy_elements(const char* from, char* to) const {
  const PackDimension column = dims_[column_], outer = row();
  const Block block{outer.from * size_, column.from * size_, outer.to * size_,
                    column.to * size_,  outer.extent,        column.extent};
  // Prefetch the operand's lines of later rows.
  Prefetch prefetch{operand_stride(outer) * size_, operand_stride(column) * size_, column.extent};
  if (std::abs(prefetch.step) < kLineBytes) {
    prefetch.lines = (std::abs(prefetch.step) * column.extent + kLineBytes - 1) / kLineBytes;
    prefetch.step = prefetch.step < 0 ? -kLineBytes : kLineBytes;
  }
  // No prefetch if adjacent rows are closer together than adjacent elements: their lines are already cached.
  if (std::abs(prefetch.row) < std::abs(prefetch.step)) prefetch.lines = 0;
  const ptrdiff_t distance =
      prefetch.lines == 0 ? 0 : prefetch.row * (kPackPrefetchBytes / (kLineBytes * prefetch.lines) + 1);
  with_element(size_, [&](auto element) {
    segments_.for_each([&](ptrdiff_t source, ptrdiff_t sink) {
      const char* later = (direction_ == Direction::kPack ? from + source : to + sink) + distance;
      copy_block<decltype(element)>(from + source, to + sink, block, later, prefetch);
    });
  });
}

// Copies blocks inside the packed tile, the innermost dimension first, doubling the length each time.
void TilePacker::repeat_blocks(char* packed) const {
  for (int r = 0; r < repeats_; ++r) {
    const int64_t block = repeat_[r].to * size_, all = block * repeat_[r].extent;
    int outer = 0;
    while (outer < rank_ && dims_[outer].to < repeat_[r].to) ++outer;
    for_each_index(dims_ + outer, rank_ - outer, [&](ptrdiff_t, ptrdiff_t at) {
      char* first = packed + at * size_;
      for (int64_t done = block; done < all; done *= 2) {
        std::memcpy(first + done, first, static_cast<size_t>(std::min(done, all - done)));
      }
    });
  }
}

void TilePacker::replicate_elements(const char* from, char* packed) const {
  if (size_ == 1) {  // `from` may be the end of `packed`, which the last row alone overwrites
    for (int64_t i = 0; i < rows_; ++i)
      std::memset(packed + i * pitch_, from[i], static_cast<size_t>(copies_));
    return;
  }
  kernels_->replicate[element_size_index(size_)](from, packed, static_cast<size_t>(rows_),
                                                 static_cast<size_t>(copies_), static_cast<size_t>(pitch_));
}

void TilePacker::copy(const char* from, char* packed, char* stage) const {
  const bool one_segment = kind_ == Kind::kContiguous && dims_[0].extent == rows_;
  if (copies_ > 1 && one_segment) return replicate_elements(from, packed);
  char* to = packed + rows_ * (pitch_ - 1) * size_;
  switch (kind_) {
    case Kind::kContiguous:
      copy_contiguous(from, to);
      break;
    case Kind::kStrided:
      copy_strided(from, to);
      break;
    case Kind::kTranspose:
      transpose(from, to);
      break;
    case Kind::kStridedTranspose:
      transpose_strided(from, to, stage);
      break;
    case Kind::kElements:
      copy_elements(from, to);
      break;
  }
  repeat_blocks(to);
  if (copies_ > 1) replicate_elements(to, packed);
}

}  // namespace mseloss::cpu
