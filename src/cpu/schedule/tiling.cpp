#include "cpu/schedule/tiling.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "cpu/kernels/kernels.h"

namespace mseloss::cpu {
namespace {

// The product of extents first..last-1 of a tile.
int64_t product(const int64_t* tile, int first, int last) {
  int64_t result = 1;
  for (int d = first; d < last; ++d) result *= tile[d];
  return result;
}

// A broadcast operand (inner stride 0) contributes one element per row and does not constrain the tile.
bool has_inner_stride(const Plan& plan, int o) { return has(plan, o) && plan.stride[o][plan.rank - 1] != 0; }

// Widens the tile until it covers `width` elements along the operand's contiguous dimension and, if that
// dimension is short, the adjacent elements that share its cache lines.
void cover(const Plan& plan, int o, int64_t width, int64_t* tile) {
  const int first = contiguous_dimension(plan, o);
  tile[first] = std::max(tile[first], std::min(plan.extent[first], width));
  const int64_t together = std::min<int64_t>(width, kLinePairBytes / size_of(plan.dtype));
  for (int64_t covered = tile[first]; covered < together;) {
    int next = first;
    for (int d = 0; d < plan.rank; ++d) {
      if (std::abs(plan.stride[o][d]) == covered * std::abs(plan.stride[o][first])) next = d;
    }
    if (next == first) return;
    tile[next] = std::max(tile[next], std::min(plan.extent[next], (together + covered - 1) / covered));
    covered *= tile[next];
  }
}

int64_t transposed_tile_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const int64_t bytes =
      std::clamp<int64_t>(sysconf(_SC_LEVEL2_CACHE_SIZE) / 4, kMinTransposedBytes, kMaxTransposedBytes);
  return bytes;
#else
  return kMinTransposedBytes;
#endif
}

void choose_tile(const Plan& plan, Tiling* tiling) {
  int64_t transposed = 0;
  for (int o = 0; o < kOperands; ++o) {
    if (has_inner_stride(plan, o) && contiguous_dimension(plan, o) != plan.rank - 1) ++transposed;
  }
  const int64_t bytes =
      transposed == 0 ? kTileBytes : std::max(transposed_tile_bytes() / transposed, kTileBytes);
  const int64_t size = size_of(plan.dtype), budget = bytes / size;
  int64_t* tile = tiling->tile_extent;
  for (int64_t width = kSegmentBytes / size; width >= 1; width /= 2) {
    std::fill_n(tile, plan.rank, 1);
    for (int o = 0; o < kOperands; ++o) {
      if (has_inner_stride(plan, o)) cover(plan, o, width, tile);
    }
    if (product(tile, 0, plan.rank) <= budget) break;
  }
  // The rest of the budget goes to the innermost dimensions, in tiles of equal size, rounded to full cache
  // lines if they are long.
  const int64_t line = kLineBytes / size;
  for (int d = plan.rank; d-- > 0;) {
    const int64_t most = std::min(plan.extent[d], budget / (product(tile, 0, plan.rank) / tile[d]));
    const int64_t count = (plan.extent[d] + most - 1) / most;
    tile[d] = (plan.extent[d] + count - 1) / count;
    if (count > 1 && tile[d] >= 4 * line) {
      const int64_t up = (tile[d] + line - 1) / line * line;
      tile[d] = up <= most ? up : up - line;
    }
  }
}

// Divides the outermost dimensions until there is a tile for each thread. The tiles of slices are divided
// among threads in other ways.
void share_tiles(const Plan& plan, int threads, int64_t* tile) {
  if (plan.sliced) return;
  int64_t tiles = 1;
  for (int d = 0; d < plan.rank; ++d) tiles *= (plan.extent[d] + tile[d] - 1) / tile[d];
  for (int d = 0; d + 1 < plan.rank && tiles < threads; ++d) {
    const int64_t wanted = (threads + tiles - 1) / tiles, parts = std::min(tile[d], wanted);
    tile[d] = (tile[d] + parts - 1) / parts;
    tiles *= parts;
  }
}

// The dimension of the rows of which a sliced plan sums the columns: the innermost one that is reduced, if
// the columns are not. -1 if there is none.
int column_rows_dimension(const Plan& plan) {
  if (!plan.sliced || is_reduced(plan, plan.rank - 1)) return -1;
  int d = plan.rank - 1;
  while (d >= 0 && !is_reduced(plan, d)) --d;
  return d;
}

// Whether the rows of an input follow each other in memory.
bool is_stream(const Plan& plan, const int64_t* tile, int o, int rows_dim) {
  const int64_t* stride = plan.stride[o];
  int64_t row = 1;
  for (int d = plan.rank; d-- > rows_dim + 1;) {
    if (stride[d] != row || tile[d] != plan.extent[d]) return false;
    row *= plan.extent[d];
  }
  return stride[rows_dim] == row && plan.dtypes[o] == plan.dtype;
}

// Kernels that sum columns hold the sums of a row of them, and add them to the accumulators of the slices
// once for each block: a tile has many rows of the same slices. Fewer if an operand is packed, in a tile for
// L1.
void choose_column_tile(const Plan& plan, int64_t* tile) {
  constexpr int64_t kMaxColumns = 1024, kMinRows = 16, kBytes = 256 * 1024, kPackedBytes = 32 * 1024;
  const int rows_dim = column_rows_dimension(plan), inner = plan.rank - 1;
  if (rows_dim < 0) return;
  if (tile[inner] > kMaxColumns) {
    const int64_t count = (plan.extent[inner] + kMaxColumns - 1) / kMaxColumns,
                  line = kLineBytes / size_of(plan.dtype);
    tile[inner] = ((plan.extent[inner] + count - 1) / count + line - 1) / line * line;
  }
  bool packed = false;
  for (const int o : {kInput, kTarget, kWeight}) {
    const bool direct = plan.stride[o][inner] == 1 && plan.dtypes[o] == plan.dtype;
    packed = packed || (has(plan, o) && !direct);
  }
  const int64_t row = product(tile, 0, plan.rank) / tile[rows_dim] * size_of(plan.dtype);
  const int64_t in_lines = kLineBytes / std::gcd(kLineBytes, row);  // rows that end where a cache line does
  const int64_t rows = (packed ? kPackedBytes : kBytes) / row / in_lines * in_lines;
  tile[rows_dim] = std::min(plan.extent[rows_dim], std::max({tile[rows_dim], kMinRows, rows}));
}

// The outermost dimension that a row may begin with: a row is reduced as a whole or not at all.
int first_row_dimension(const Plan& plan) {
  if (!plan.sliced) return 0;
  int d = plan.rank - 1;
  while (d > 0 && is_reduced(plan, d - 1) == is_reduced(plan, plan.rank - 1)) --d;
  return d;
}

// The outermost dimension d such that dimensions d..rank-1 of a tile are contiguous (stride 1) or broadcast
// (stride 0) in the operand; rank if there is none.
int first_contiguous_dimension(const Plan& plan, const Tiling& tiling, int operand) {
  const int64_t* stride = plan.stride[operand];
  int d = plan.rank - 1;
  const bool unit = stride[d] == 1 || (stride[d] == 0 && operand < kOut);
  if (!unit || is_converted(plan, operand)) return plan.rank;
  while (d > 0 && tiling.tile_extent[d] == plan.extent[d] && stride[d - 1] == stride[d] * plan.extent[d]) --d;
  return d;
}

// Chooses the row_dim of the lowest cost: longer rows cost less in the kernels, but operands that are
// contiguous over fewer dimensions than a row spans have to be packed.
void choose_rows(const Plan& plan, Tiling* tiling) {
  // In units of the time to copy one byte within L1; these and kNearBytes are fitted to rows of 8 to 130
  // bytes on a Zen 5.
  constexpr int64_t kRowCost = 200, kBroadcastCost = 80, kSegmentCost = 40;
  constexpr int64_t kShortColumnRowBytes = 512;
  constexpr int64_t kNearBytes = 256;  // the largest distance between short rows that are accessed directly
  const int64_t size = size_of(plan.dtype);
  const int outermost = first_row_dimension(plan);
  int first[kOperands];
  std::fill_n(first, kOperands, plan.rank);
  int out_row = plan.rank;  // the rows of a gradient may span slices
  const auto row_bytes = [&](int d) { return product(tiling->tile_extent, d, plan.rank) * size; };
  for_each_operand(plan, [&](int o) {
    first[o] = std::max(outermost, first_contiguous_dimension(plan, *tiling, o));
    if (o == kOut) out_row = first_contiguous_dimension(plan, *tiling, o);
    // Packing reads the cache lines in the operand's order; direct access reads them in the order of the
    // rows.
    if (first[o] == 0 || first[o] == plan.rank || row_bytes(first[o]) >= kLineBytes) return;
    if (std::abs(plan.stride[o][first[o] - 1]) * size_of(plan.dtypes[o]) > kNearBytes) first[o] = plan.rank;
  });
  const auto cost = [&](int row_dim) {
    int64_t row = kRowCost, copies = 0;
    for_each_operand(plan, [&](int o) {
      if (first[o] <= row_dim) {
        if (row_dim > 0 && !has_inner_stride(plan, o)) row += kBroadcastCost;
      } else {
        const int64_t segments = has_inner_stride(plan, o) ? product(tiling->tile_extent, 0, first[o]) : 1;
        copies += segments * kSegmentCost + tiling->tile_numel * size_of(kernel_dtype(plan, o));
      }
    });
    return product(tiling->tile_extent, 0, row_dim) * row + copies;
  };
  // Non-temporal stores need long rows: operands that are contiguous only in shorter ones are packed.
  tiling->non_temporal_rows =
      tiling->non_temporal && first[kOut] < plan.rank && row_bytes(out_row) >= kNonTemporalRowBytes;
  const int64_t min_bytes = tiling->non_temporal_rows ? kNonTemporalRowBytes
                            : has_sum(plan)           ? kDirectSumRowBytes
                                                      : kDirectRowBytes;
  tiling->row_dim = outermost;
  int64_t least = cost(outermost);
  for_each_operand(plan, [&](int o) {
    if (first[o] == 0 || first[o] == plan.rank || row_bytes(first[o]) < min_bytes) return;
    if (const int64_t own = cost(first[o]); own < least) {
      least = own;
      tiling->row_dim = first[o];
    }
  });
  for_each_operand(plan, [&](int o) { tiling->direct[o] = first[o] <= tiling->row_dim; });
  // The columns of short rows are summed as a stream: inputs with other rows are packed.
  const int rows_dim = column_rows_dimension(plan);
  if (rows_dim >= 0 && rows_dim == tiling->row_dim - 1 && row_bytes(tiling->row_dim) < kShortColumnRowBytes) {
    for (const int o : {kInput, kTarget, kWeight}) {
      tiling->direct[o] = tiling->direct[o] && is_stream(plan, tiling->tile_extent, o, rows_dim);
    }
  }
  tiling->non_temporal_rows = tiling->non_temporal_rows && tiling->direct[kOut];
  // Rows an odd number of cache lines apart do not compete for the same cache sets.
  const int64_t line = kLineBytes / size, row = tiling->tile_extent[plan.rank - 1];
  if (plan.rank > 1 && tiling->row_dim == plan.rank - 1 && row >= 4 * line) {
    tiling->row_padding = row / line % 2 == 0 ? line : 2 * line;
  }
}

}  // namespace

void add_unit_dimension(Plan* plan) {
  if (!needs_dimension(*plan)) return;
  plan->rank = 1;
  plan->extent[0] = 1;
  for (auto& strides : plan->stride) strides[0] = 0;
}

Tiling make_tiling(const Plan& plan, bool non_temporal, int threads) {
  Tiling tiling{};
  choose_tile(plan, &tiling);
  share_tiles(plan, threads, tiling.tile_extent);
  choose_column_tile(plan, tiling.tile_extent);
  tiling.tile_numel = product(tiling.tile_extent, 0, plan.rank);
  tiling.num_tiles = 1;
  for (int d = 0; d < plan.rank; ++d) {
    tiling.tile_counts[d] = (plan.extent[d] + tiling.tile_extent[d] - 1) / tiling.tile_extent[d];
    tiling.num_tiles *= tiling.tile_counts[d];
  }
  int kept = 0;
  tiling.slice_tiles = 1;
  for (int d = 0; d < plan.rank; ++d) {
    if (plan.sliced && is_reduced(plan, d)) {
      tiling.slice_tiles *= tiling.tile_counts[d];
    } else {
      tiling.order[kept++] = d;
    }
  }
  for (int d = 0; kept < plan.rank; ++d) {
    if (is_reduced(plan, d)) tiling.order[kept++] = d;
  }
  tiling.non_temporal = non_temporal;
  choose_rows(plan, &tiling);
  return tiling;
}

}  // namespace mseloss::cpu
