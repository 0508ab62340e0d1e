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

// Units first..last-1 of a sliced plan; each slice tile (slice_sums.h) is divided into `parts` units. With
// one part, `sums` are the accumulators of one unit; the loss is rounded and written, and the result is the
// number of its elements that were marked with store_pending(). With several parts, unit u leaves its sums in
// the accumulators that begin u * slice_bytes() bytes after `sums`; kSliceGrad finds its scales in those of a
// slice tile's first unit.
int64_t run_slice_tiles(const Plan& plan, const Tiling& tiling, char* const* data, int64_t first,
                        int64_t last, int64_t parts, char* scratch, SweepRunner* runner, double* sums);

}  // namespace mseloss::cpu
