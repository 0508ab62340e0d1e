#include "cpu/schedule/slice_sums.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/kernels/kernels.h"
#include "numerics/formats.h"
#include "numerics/rounding_test.h"
#include "plan/parts.h"

namespace mseloss::cpu {
namespace {

int slice_planes(const Plan& plan) { return has(plan, kWeight) ? kWeightedSlicePlanes : kSlicePlanes; }

// The sum of one slice in one accumulator.
RowSum slice_sum(const double* at, int64_t plane, bool may_overflow) {
  return {at[0], at[plane], at[2 * plane], may_overflow};
}

}  // namespace

void locate_tile(const Plan& plan, const Tiling& tiling, int64_t index, int64_t* first, int64_t* extent) {
  for (int i = plan.rank; i-- > 0;) {
    const int d = tiling.order[i];
    first[d] = index % tiling.tile_counts[d] * tiling.tile_extent[d];
    index /= tiling.tile_counts[d];
    extent[d] = std::min(tiling.tile_extent[d], plan.extent[d] - first[d]);
  }
}

int64_t slice_strides(const Plan& plan, const Tiling& tiling, const int64_t* extent, int64_t* strides) {
  int64_t stride = 1, plane = 1;
  for (int d = plan.rank; d-- > 0;) {
    const bool reduced = is_reduced(plan, d);
    strides[d] = reduced ? 0 : stride;
    if (reduced) continue;
    stride *= extent[d];
    plane *= tiling.tile_extent[d];
  }
  return plane + kSlicePadding;
}

size_t slice_bytes(const Plan& plan, const Tiling& tiling) {
  int64_t strides[kMaxRank];
  const int64_t plane = slice_strides(plan, tiling, tiling.tile_extent, strides);
  const int more = needs_scale(plan) ? 2 : 1;
  return (static_cast<size_t>(plane * (slice_planes(plan) + more)) * sizeof(double) + 63) / 64 * 64;
}

SliceTile::SliceTile(const Plan& plan, const Tiling& tiling, int64_t index) {
  locate_tile(plan, tiling, index * tiling.slice_tiles, first, extent);
  plane = slice_strides(plan, tiling, extent, strides);
  for (int d = 0; d < plan.rank; ++d) count *= strides[d] == 0 ? 1 : extent[d];
}

void SliceTile::next(const Plan& plan, int64_t* index) const {
  for (int d = plan.rank; d-- > 0;) {
    if (strides[d] == 0) continue;
    if (++index[d] < extent[d]) return;
    index[d] = 0;
  }
}

int64_t SliceTile::loss_offset(const Plan& plan, const int64_t* index) const {
  int64_t offset = 0;
  for (int d = 0; d < plan.rank; ++d) offset += (first[d] + index[d]) * plan.stride[kLossOut][d];
  return offset * size_of(plan.loss_dtype);
}

char* scales_of(const Plan& plan, const SliceTile& tile, double* sums) {
  return reinterpret_cast<char*>(sums + (slice_planes(plan) + 1) * tile.plane);
}

SliceScales find_scales(const Plan& plan, const SliceTile& tile, const ExactSlices& exact, double* sums) {
  const DType compute = compute_dtype(plan);
  const auto terms = static_cast<uint64_t>(plan.numel / plan.slices);
  double* const planes = sums + kSlicePlanes * tile.plane;
  char* const scales = scales_of(plan, tile, sums);
  if (kernels().slice_scales[static_cast<int>(compute)](planes, tile.plane, static_cast<size_t>(tile.count),
                                                        is_masked(plan), scales)) {
    return {scales, true};
  }
  bool complete = true;
  int64_t index[kMaxRank] = {};
  for (int64_t i = 0; i < tile.count; ++i, tile.next(plan, index)) {
    char* const to = scales + i * size_of(compute);
    if (!is_pending(compute, to)) continue;
    const RowSum weights = slice_sum(planes + i, tile.plane, compute == DType::kFloat64);
    SumState state;
    SumAccess::add_fast(&state, {weights, weights}, terms, is_masked(plan));
    double scale;
    bool found = SumAccess::scale(state, nullptr, 1, compute, &scale);
    if (!found && exact.available()) {
      ExactSlice slice;
      exact.sum(index, &slice);
      SumState of_weights = slice.state;
      of_weights.squares = slice.state.weights;
      found = SumAccess::scale(of_weights, slice.limbs + PartialSum::kLimbs, 1, compute, &scale);
    }
    if (found) {
      store_exact(scale, compute, to);
    } else {
      complete = false;
    }
  }
  return {scales, complete};
}

void merge_parts(const Plan& plan, const SliceTile& tile, double* sums, int64_t parts, size_t bytes) {
  for (int64_t part = 1; part < parts; ++part) {
    const double* own = sums + static_cast<size_t>(part) * (bytes / sizeof(double));
    for (int plane = 0; plane < slice_planes(plan); plane += kSlicePlanes) {
      for (int64_t i = plane * tile.plane; i < plane * tile.plane + tile.count; ++i) {
        double *const high = sums + i, *const low = high + tile.plane, *const error = low + tile.plane;
        const RowSum row = slice_sum(own + i, tile.plane, true);
        FastSum total{*high, *low, *error, 0};
        // A sum that is not finite stays so, and is its own result.
        if (std::isfinite(*high)) add_row(&total, row);
        const bool finite = std::isfinite(*high) && std::isfinite(row.high);
        *high = finite ? total.high : *high + row.high;
        *low = finite ? total.low : 0;
        *error = finite ? total.error : 0;
      }
    }
  }
}

int64_t finish_slice_tile(const Plan& plan, const SliceTile& tile, char* loss, double* sums,
                          const ExactSlices& exact, const SliceScales& scales) {
  const bool may_overflow = plan.dtype == DType::kFloat64, weighted = has(plan, kWeight),
             masked = is_masked(plan);
  const auto terms = static_cast<uint64_t>(plan.numel / plan.slices);
  const int size = size_of(plan.loss_dtype);
  const DType compute = compute_dtype(plan);
  bool contiguous = true;  // in the loss
  for (int d = 0; d < plan.rank; ++d) {
    if (tile.strides[d] == 0 || tile.extent[d] == 1) continue;
    contiguous = contiguous && plan.stride[kLossOut][d] == tile.strides[d];
  }
  int64_t index[kMaxRank] = {};
  char* const losses = contiguous ? loss + tile.loss_offset(plan, index)
                                  : reinterpret_cast<char*>(sums + slice_planes(plan) * tile.plane);
  // Most slices are rounded many at a time, the others one by one.
  const bool rounds = terms < uint64_t{1} << 53;
  if (rounds) {
    const double divisor = plan.reduction == Reduction::kSum ? 1 : weighted ? 0 : static_cast<double>(terms);
    const bool complete = kernels().round_slices[static_cast<int>(plan.loss_dtype)][weighted && !masked](
        sums, tile.plane, static_cast<size_t>(tile.count), divisor, losses);
    if (complete && contiguous && scales.complete) return 0;
  }
  const bool single = terms == 1 && !weighted && compute == DType::kFloat32;
  const auto finish = [&](int64_t slice, char* to) {
    if (single) {  // the square of a float32 is exact
      store_rounded(sums[slice], plan.loss_dtype, to);
      return true;
    }
    SumState state;
    const RowSum squares = slice_sum(sums + slice, tile.plane, may_overflow);
    if (weighted) {
      const RowSum weights = slice_sum(sums + slice + kSlicePlanes * tile.plane, tile.plane, may_overflow);
      SumAccess::add_fast(&state, {squares, weights}, terms, masked);
    } else {
      SumAccess::add_fast(&state, squares, terms);
    }
    if (SumAccess::finish(state, nullptr, plan.reduction, plan.loss_dtype, to)) return true;
    if (!exact.available()) return false;
    ExactSlice sum;
    exact.sum(index, &sum);
    return SumAccess::finish(sum.state, sum.limbs, plan.reduction, plan.loss_dtype, to);
  };
  int64_t pending = 0;
  for (int64_t i = 0; i < tile.count; ++i, tile.next(plan, index)) {
    char* const from = losses + i * size;
    char* const to = contiguous ? from : loss + tile.loss_offset(plan, index);
    if (rounds && !contiguous) std::memcpy(to, from, static_cast<size_t>(size));
    const bool has_scale = scales.complete || !is_pending(compute, scales.at + i * size_of(compute));
    if (has_scale && ((rounds && !is_pending(plan.loss_dtype, to)) || finish(i, to))) continue;
    store_pending(plan.loss_dtype, to);
    ++pending;
  }
  return pending;
}

}  // namespace mseloss::cpu
