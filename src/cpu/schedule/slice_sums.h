// The accumulators of a sliced plan's sums, and their rounding to the loss. The tiles that contribute to the
// same slices form a slice tile; its accumulators hold, plane by plane, high, low and error of each slice's
// sum (with weights also those of the sum of weights), then one plane of results and, for a mean with weights
// and a gradient, one of scales.
#pragma once

#include "cpu/schedule/tiling.h"

namespace mseloss::cpu {

// The first element and the extents of a tile.
void locate_tile(const Plan& plan, const Tiling& tiling, int64_t index, int64_t* first, int64_t* extent);

// The strides of a tile's slices in a plane, 0 in the reduced dimensions. Returns the distance between
// planes.
int64_t slice_strides(const Plan& plan, const Tiling& tiling, const int64_t* extent, int64_t* strides);

// The accumulators of one slice tile, in bytes.
size_t slice_bytes(const Plan& plan, const Tiling& tiling);

// The scales of a slice tile's gradient, 2 / sum(w) in the compute dtype, in the order of the accumulators;
// NaN where the fast sum cannot decide the rounding.
void* slice_scales(const Plan& plan, const Tiling& tiling, int64_t slice_tile, double* sums);

// Rounds and writes the loss of the slices of one slice tile. `sums` holds `parts` accumulators,
// slice_bytes() apart, each with a part of every sum. `scales` are those of slice_scales(), or null. Returns
// the number of elements that it marked with store_pending(), because their rounding or their scale is
// undecided.
int64_t finish_slice_tile(const Plan& plan, const Tiling& tiling, char* loss, int64_t slice_tile,
                          int64_t parts, double* sums, const void* scales = nullptr);

}  // namespace mseloss::cpu
