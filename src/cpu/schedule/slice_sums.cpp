#include "cpu/schedule/slice_sums.h"

#include <algorithm>
#include <cmath>

#include "cpu/kernels/kernels.h"
#include "numerics/formats.h"
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

void* slice_scales(const Plan& plan, const Tiling& tiling, int64_t slice_tile, double* sums) {
  int64_t first[kMaxRank], extent[kMaxRank], strides[kMaxRank], count = 1;
  locate_tile(plan, tiling, slice_tile * tiling.slice_tiles, first, extent);
  const int64_t plane = slice_strides(plan, tiling, extent, strides);
  for (int d = 0; d < plan.rank; ++d) count *= strides[d] == 0 ? 1 : extent[d];
  const DType compute = compute_dtype(plan);
  const auto terms = static_cast<uint64_t>(plan.numel / plan.slices);
  double* const scales = sums + (slice_planes(plan) + 1) * plane;
  for (int64_t i = 0; i < count; ++i) {
    const RowSum weights = slice_sum(sums + 3 * plane + i, plane, compute == DType::kFloat64);
    SumState state;
    SumAccess::add_fast(&state, {weights, weights}, terms, is_masked(plan));
    double scale = NAN;
    if (!SumAccess::scale(state, nullptr, 1, compute, &scale)) scale = NAN;
    store_exact(scale, compute, reinterpret_cast<char*>(scales) + i * size_of(compute));
  }
  return scales;
}

int64_t finish_slice_tile(const Plan& plan, const Tiling& tiling, char* loss, int64_t slice_tile,
                          int64_t parts, double* sums, const void* scales) {
  int64_t first[kMaxRank], extent[kMaxRank], strides[kMaxRank], index[kMaxRank] = {};
  locate_tile(plan, tiling, slice_tile * tiling.slice_tiles, first, extent);
  const int64_t plane = slice_strides(plan, tiling, extent, strides);
  const int64_t each = static_cast<int64_t>(slice_bytes(plan, tiling) / sizeof(double));
  const bool may_overflow = plan.dtype == DType::kFloat64, weighted = has(plan, kWeight),
             masked = is_masked(plan);
  const auto terms = static_cast<uint64_t>(plan.numel / plan.slices);
  const int size = size_of(plan.loss_dtype);
  for (int d = 0; d < plan.rank; ++d) loss += first[d] * plan.stride[kLossOut][d] * size;
  // Most slices are rounded many at a time, the others one by one.
  const bool rounds = parts == 1 && (!weighted || masked) && terms < uint64_t{1} << 53;
  double* const results = sums + slice_planes(plan) * plane;
  int64_t pending = 0;
  const DType compute = compute_dtype(plan);
  const auto is_scaled = [&](int64_t slice) {
    return scales == nullptr ||
           !std::isnan(load(compute, static_cast<const char*>(scales) + slice * size_of(compute)));
  };
  const auto finish = [&](const double* at, char* to) {
    const bool scaled = is_scaled(at - sums);
    if (const double result = results[at - sums]; rounds && scaled && result == result) {
      return store_exact(result, plan.loss_dtype, to);
    }
    SumState state;
    for (int64_t part = 0; part < parts; ++part) {
      const double* own = at + part * each;
      const RowSum squares = slice_sum(own, plane, may_overflow);
      const uint64_t own_terms = part == 0 ? terms : 0;
      if (weighted) {
        SumAccess::add_fast(&state, {squares, slice_sum(own + 3 * plane, plane, may_overflow)}, own_terms,
                            masked);
      } else {
        SumAccess::add_fast(&state, squares, own_terms);
      }
    }
    if (scaled && SumAccess::finish(state, nullptr, plan.reduction, plan.loss_dtype, to)) return;
    store_pending(plan.loss_dtype, to);
    ++pending;
  };
  if (rounds) {
    int64_t count = 1;
    bool contiguous = true;  // in the loss
    for (int d = 0; d < plan.rank; ++d) {
      if (strides[d] == 0) continue;
      count *= extent[d];
      contiguous = contiguous && (extent[d] == 1 || plan.stride[kLossOut][d] == strides[d]);
    }
    const double divisor = plan.reduction == Reduction::kSum ? 1 : masked ? 0 : static_cast<double>(terms);
    kernels().round_slices[static_cast<int>(plan.loss_dtype)](sums, plane, static_cast<size_t>(count),
                                                              divisor, results);
    if (contiguous) {
      constexpr int kFrom = static_cast<int>(DType::kFloat64);
      kernels().convert[kFrom][static_cast<int>(plan.loss_dtype)](results, loss, static_cast<size_t>(count));
      for (int64_t i = 0; i < count; ++i) {
        if (results[i] != results[i] || !is_scaled(i)) finish(sums + i, loss + i * size);
      }
      return pending;
    }
  }
  const double* at = sums;
  for (;;) {
    finish(at, loss);
    int d = plan.rank - 1;
    for (; d >= 0; --d) {
      // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): d < kMaxRank
      if (strides[d] == 0) continue;
      const int64_t steps = ++index[d] < extent[d] ? 1 : 1 - extent[d];
      loss += steps * plan.stride[kLossOut][d] * size;
      at += steps * strides[d];
      if (steps == 1) break;
      index[d] = 0;
    }
    if (d < 0) return pending;
  }
}

}  // namespace mseloss::cpu
