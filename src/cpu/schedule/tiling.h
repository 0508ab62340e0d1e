// How a general layout is tiled: tiles small enough for the caches, in which every operand is read along its
// own contiguous dimension.
#pragma once

#include "plan/plan.h"

namespace mseloss::cpu {

// Size of one operand's packed tile: small enough for L1, in which short rows are replicated or gathered. If
// an operand is transposed, tiles are larger, so that the other operands have long rows, which hardware
// prefetchers follow: the packed tiles of all transposed operands share a quarter of L2, within these limits.
inline constexpr int64_t kTileBytes = 16 * 1024;
inline constexpr int64_t kMinTransposedBytes = 128 * 1024, kMaxTransposedBytes = 512 * 1024;
// Read at a time along a transposed operand's contiguous dimension.
inline constexpr int64_t kSegmentBytes = 256;
inline constexpr int64_t kLinePairBytes = 128;  // two cache lines, which prefetchers fetch together
// Shorter rows are cheaper to pack; the kernels of sums need longer rows to fill their vectors.
inline constexpr int64_t kDirectRowBytes = 16, kDirectSumRowBytes = 64;
// Below this length, the cached stores at both ends of a row cost more than non-temporal stores save.
inline constexpr int64_t kNonTemporalRowBytes = 256;

struct Tiling {
  int64_t tile_extent[kMaxRank];
  int64_t tile_counts[kMaxRank];  // tiles in each dimension
  int64_t num_tiles;
  int64_t tile_numel;
  int row_dim;             // dimensions row_dim..rank-1 of a tile are contiguous for every direct operand
  bool direct[kOperands];  // the kernels access the operand itself, not a packed tile
  bool non_temporal;       // the output uses non-temporal stores, in the kernels or while it is unpacked
  bool non_temporal_rows;  // the kernels write the output directly, with non-temporal stores
  int order[kMaxRank];     // dimensions of the tile loop, outermost first; of a sliced plan, the reduced ones
                           // last
  int64_t slice_tiles;     // of a sliced plan: tiles that contribute to the same slices
  int64_t row_padding;     // elements between rows of a packed tile, against cache set conflicts
};

// A 0-dimensional plan that is not dense has no dimension to tile; add_unit_dimension() gives it one.
inline bool needs_dimension(const Plan& plan) { return plan.rank == 0 && plan.layout != Layout::kDense; }
void add_unit_dimension(Plan* plan);

// The plan's rank is at least 1. The loss of a sliced plan is no operand here.
Tiling make_tiling(const Plan& plan, bool non_temporal, int threads);

}  // namespace mseloss::cpu
