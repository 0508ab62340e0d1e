// Runs a general layout tile by tile: packs the operands that the kernels cannot access directly, computes,
// and unpacks the outputs.
#pragma once

#include "cpu/schedule/sweep_runner.h"
#include "cpu/schedule/tiling.h"

namespace mseloss::cpu {

// Scratch memory that one call of run_tiles() needs, in bytes; 64-byte aligned.
size_t scratch_bytes(const Plan& plan, const Tiling& tiling);

// Tiles first..last-1 in row-major order. data[o] is operand o's element (0, ..., 0) in the plan's
// dimensions.
void run_tiles(const Plan& plan, const Tiling& tiling, char* const* data, int64_t first, int64_t last,
               char* scratch, SweepRunner* runner);

// The accumulators of the slices of one tile, in bytes.
size_t slice_bytes(const Plan& plan, const Tiling& tiling);

// Units first..last-1 of a sliced plan. The tiles that contribute to the same slices form a slice tile, which
// is divided into `parts` units. With one part, `sums` are accumulators for one unit, and the rounded sums
// are written to data[kLossOut]; returns the number of elements that became store_pending(). With several
// parts, unit u leaves its sums in the accumulators that begin u * slice_bytes() behind `sums`.
int64_t run_slice_tiles(const Plan& plan, const Tiling& tiling, char* const* data, int64_t first,
                        int64_t last, int64_t parts, char* scratch, SweepRunner* runner, double* sums);

// Rounds the sums of one tile's slices, which `parts` accumulators behind each other have in parts, and
// writes them. Returns the number of elements that became store_pending().
int64_t finish_slice_tile(const Plan& plan, const Tiling& tiling, char* loss, int64_t slice_tile,
                          int64_t parts, double* sums);

}  // namespace mseloss::cpu
