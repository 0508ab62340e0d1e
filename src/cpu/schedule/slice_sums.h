// The accumulators of a sliced plan's sums, and their rounding to the loss. The tiles that contribute to the
// same slices form a slice tile; its accumulators hold, plane by plane, high, low and error of each slice's
// sum (with weights also those of the sum of weights), then one plane of results and, for a mean with weights
// and a gradient, one of scales.
#pragma once

#include "cpu/schedule/tiling.h"
#include "numerics/sum_access.h"

namespace mseloss::cpu {

// The first element and the extents of a tile.
void locate_tile(const Plan& plan, const Tiling& tiling, int64_t index, int64_t* first, int64_t* extent);

// The strides of a tile's slices in a plane, 0 in the reduced dimensions. Returns the distance between
// planes.
int64_t slice_strides(const Plan& plan, const Tiling& tiling, const int64_t* extent, int64_t* strides);

// The accumulators of one slice tile, in bytes.
size_t slice_bytes(const Plan& plan, const Tiling& tiling);

// The slices of one slice tile, in row-major order, which is that of the accumulators.
struct SliceTile {
  SliceTile(const Plan& plan, const Tiling& tiling, int64_t index);
  // Advances an index within the tile, of which the reduced dimensions stay 0.
  void next(const Plan& plan, int64_t* index) const;
  // Of the loss of a slice, in bytes.
  int64_t loss_offset(const Plan& plan, const int64_t* index) const;

  int64_t first[kMaxRank], extent[kMaxRank];  // of its first tile
  int64_t strides[kMaxRank];                  // slice_strides()
  int64_t plane;                              // distance between planes
  int64_t count = 1;
};

// The exact sum of one slice, with weights also that of the weights.
struct ExactSlice {
  SumState state;
  uint64_t limbs[2 * PartialSum::kLimbs] = {};
};

// Sums a slice of a tile exactly, at an index as in SliceTile::next(); not available (null) for slices of
// several tiles.
struct ExactSlices {
  void (*run)(void* context, const int64_t* index, ExactSlice* sum) = nullptr;
  void* context = nullptr;

  bool available() const { return run != nullptr; }
  void sum(const int64_t* index, ExactSlice* sum) const { run(context, index, sum); }
};

// The scales of the gradient of each slice, 2 / sum(w) in the compute dtype, or store_pending() where they
// are undecided; `complete` if there is none such.
struct SliceScales {
  char* at = nullptr;
  bool complete = true;
};

// Where the accumulators have the scales.
char* scales_of(const Plan& plan, const SliceTile& tile, double* sums);

// Computes them from the sums of the weights.
SliceScales find_scales(const Plan& plan, const SliceTile& tile, const ExactSlices& exact, double* sums);

// Adds `parts` accumulators, `bytes` apart, each with a part of every sum, to the first.
void merge_parts(const Plan& plan, const SliceTile& tile, double* sums, int64_t parts, size_t bytes);

// Rounds and writes the loss of each slice of a tile. Returns the number of elements that it marked with
// store_pending(), because their rounding or their scale is undecided.
int64_t finish_slice_tile(const Plan& plan, const SliceTile& tile, char* loss, double* sums,
                          const ExactSlices& exact, const SliceScales& scales);

}  // namespace mseloss::cpu
