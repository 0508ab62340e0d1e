// The kernels' tables: one per instruction-set target, filled by code that is written once
// (docs/architecture.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "mseloss/types.h"
#include "numerics/sum_access.h"

namespace mseloss::cpu {

// A plane of rows of n elements. Assumed, and checked by the plan:
// - every pointer leads to n elements of the kernel's dtype, or, where moves[i] is false, to one that stands
// for all of its row; pitches, in elements, lead from row to row;
// - out's rows are dense, and out is one of the inputs exactly or overlaps none; no pointer need be aligned;
// - scale is exact in the compute dtype.
struct Rows {
  const void* in[3];  // grad_output, input, target; grad_output is unused by the loss
  bool moves[3];      // false: one element for the whole row
  ptrdiff_t in_pitch[3];
  void* out;  // grad_input, or the elementwise loss; unused by the sum
  ptrdiff_t out_pitch;
  size_t n;
  size_t rows;
  double scale;
};

inline constexpr int kDTypes = 4;  // indexed by DType

// Kernels for vectors of 16, of 32 and of as many bytes of the operands as the target has.
inline constexpr int kWidths = 3;
inline int width_of(size_t row_bytes) { return row_bytes < 32 ? 0 : row_bytes < 64 ? 1 : 2; }

// Where a piece of a larger copy begins on either side, in bytes.
struct Piece {
  ptrdiff_t from, to;
};

// From an operand, which may be far from any cache, to a tile; from a tile to an operand; the same, past the
// caches where that pays.
enum class Way : uint8_t { kGather, kScatter, kStream };

struct Kernels {
  // out = ((input - target) * scale) * grad_output; by width_of(bytes of a row): one that is
  // shorter than the vectors goes through a buffer, which costs as much as several vectors.
  void (*grad[kDTypes][kWidths])(const Rows&);
  // The same, past the caches.
  void (*grad_streaming[kDTypes])(const Rows&);
  // out = (input - target)^2; by width_of().
  void (*loss[kDTypes][kWidths])(const Rows&);
  // The fast sum of (input - target)^2 of at most kSumBlock elements.
  void (*sum[kDTypes])(const Rows&, RowSum*);
  // grad and sum in one sweep, of one grad_output for all.
  void (*grad_sum[kDTypes][2])(const Rows&, RowSum*);
  // The exact sum into limbs; non-finite differences are added to *special instead.
  void (*exact_sum[kDTypes])(const Rows&, uint64_t* limbs, double* special);
  // to[i] = from[i], rounded once; [from][to].
  void (*convert[kDTypes][kDTypes])(const void* from, void* to, size_t n);
  // For each piece, to[i * to_stride + j] = from[j * from_stride + i], i < rows, j < columns; strides in
  // elements; by log2(size) - 1. May read, and drop, what lies between the elements, up to `from_end`.
  void (*transpose[3])(const Piece* pieces, size_t count, const void* from, ptrdiff_t from_stride, void* to,
                       ptrdiff_t to_stride, size_t rows, size_t columns, const void* from_end, Way way);
  // to[i * to_stride + j] = from[j * from_stride + i], i < rows <= from_stride <= kMaxSplit; by log2(size)
  // - 1.
  void (*split[3])(const void* from, ptrdiff_t from_stride, void* to, ptrdiff_t to_stride, size_t rows,
                   size_t columns);
  // to[i * columns + j] = from[j * from_stride + i], i < rows, j < columns <= kMaxSplit; by log2(size) - 1.
  void (*merge[3])(const void* from, ptrdiff_t from_stride, void* to, size_t rows, size_t columns);
  // For each piece, to[i] = from[i * stride], i < n, 1 < stride <= most_stride; by log2(size) - 1. May read,
  // and drop, what lies between the elements.
  void (*take[3])(const Piece* pieces, size_t count, const void* from, ptrdiff_t stride, void* to, size_t n);
  // The other way round: to[i * stride] = from[i].
  void (*give[3])(const Piece* pieces, size_t count, const void* from, void* to, ptrdiff_t stride, size_t n);
  ptrdiff_t most_stride[3];
  // For each piece, `bytes` bytes.
  void (*copy_runs)(const Piece* pieces, size_t count, const void* from, void* to, size_t bytes, Way way);
  // to[i * pitch + j] = from[i], i < rows, j < n, n >= 2; by log2(size) - 1. `from` may be the last elements
  // of those rows * pitch. May write up to kSpreadSlack bytes behind them.
  void (*spread[3])(const void* from, void* to, size_t rows, size_t n, size_t pitch);
};

inline constexpr ptrdiff_t kMaxSplit = 4;
inline constexpr int kSpreadSlack = 16;

// Short enough for the sum's bound to stay small, long enough for its fixed costs to vanish.
inline constexpr size_t kSumBlock = 16384;

const Kernels& kernels();  // of the target in use

}  // namespace mseloss::cpu
