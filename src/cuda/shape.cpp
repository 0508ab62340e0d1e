#include "cuda/shape.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace mseloss::cuda {
namespace {

constexpr int64_t kMaxParts = 65535;    // gridDim.y
constexpr int kBlocksPerProcessor = 8;  // enough to fill a multiprocessor with 256 threads each

int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

int log2_of(int64_t power) { return std::countr_zero(static_cast<uint64_t>(power)); }

// Additions in a chain of `terms` on each of `lanes` threads and the tree over them.
int64_t depth_of(int64_t terms, int lanes) { return ceil_div(terms, lanes) + log2_of(lanes); }

bool has_operand(unsigned operands, int o) { return (operands >> o & 1) != 0; }

View view_of(const Plan& plan, const Buffers& buffers, int operand) {
  View view{};
  const int size = size_of(plan.dtypes[operand]);
  view.dtype = plan.dtypes[operand];
  view.address =
      reinterpret_cast<uintptr_t>(buffers[operand]) + static_cast<uint64_t>(plan.offset[operand] * size);
  view.aligned = view.address % static_cast<unsigned>(size) == 0;
  return view;
}

bool may_hold_gradient(const Plan& plan) {
  return plan.holds_unit_gradient && plan.op == Op::kGrad &&
         std::all_of(plan.stride[kGradOutput], plan.stride[kGradOutput] + plan.rank,
                     [](int64_t stride) { return stride == 0; });
}

}  // namespace

Divisor make_divisor(int64_t extent) {
  if (extent < 2) return {};
  // With l = ceil(log2(extent)) and m = ceil(2^(63 + l) / extent) = (2^(63 + l) + e) / extent, 0 <= e <
  // extent, n m / 2^(63 + l) exceeds n / extent by n e / (2^(63 + l) extent) < 1 / extent, because n < 2^63
  // and e < 2^l. The fraction of n / extent is at most 1 - 1 / extent, so both have the same floor.
  const int l = std::bit_width(static_cast<uint64_t>(extent - 1));
  const unsigned __int128 power = static_cast<unsigned __int128>(1) << (63 + l);
  const uint64_t d = static_cast<uint64_t>(extent);
  return {static_cast<uint64_t>((power + d - 1) / d), static_cast<uint32_t>(l - 1)};
}

ElementArguments element_arguments(const Plan& plan, const Buffers& buffers, unsigned operands,
                                   const Scales& scales) {
  ElementArguments a{};
  a.dtype = plan.dtype;
  a.scale = plan.scale;
  a.masked = has_operand(operands, kWeight) && is_masked(plan);
  for (int o = 0; o < kOperands; ++o) {
    if (has_operand(operands, o)) a.view[o] = view_of(plan, buffers, o);
  }
  a.view[kScaleView] = {scales.address, {}, DType::kFloat64, true};
  a.unless_one = may_hold_gradient(plan);
  Nest& nest = a.nest;
  nest.slices = plan.sliced ? plan.slices : 1;
  nest.terms = plan.sliced && plan.numel != 0 ? plan.numel / plan.slices : plan.numel;
  // Without elements the nest is that of the loss alone.
  for (const bool kept : {true, false}) {
    for (int d = 0; d < plan.rank; ++d) {
      if ((plan.sliced && (plan.numel == 0 || !is_reduced(plan, d))) != kept) continue;
      nest.extent[nest.rank] = plan.extent[d];
      nest.divisor[nest.rank] = make_divisor(plan.extent[d]);
      for (int o = 0; o < kOperands; ++o) {
        if (has_operand(operands, o))
          a.view[o].stride[nest.rank] = plan.stride[o][d] * size_of(plan.dtypes[o]);
      }
      a.view[kScaleView].stride[nest.rank] = scales.stride[d];
      ++nest.rank;
    }
    if (kept) nest.kept = nest.rank;
  }
  return a;
}

namespace {

// One dtype, no weight, and chunks at aligned addresses of every operand that is contiguous along the
// innermost dimension.
bool has_aligned_chunks(const Plan& plan, const Buffers& buffers, unsigned operands) {
  if (plan.sliced || plan.rank == 0 || has_operand(operands, kWeight)) return false;
  const int size = size_of(plan.dtype), inner = plan.rank - 1;
  for (int o = 0; o < kOperands; ++o) {
    if (!has_operand(operands, o)) continue;
    const bool strided = plan.stride[o][inner] != 0;
    const int64_t unit = strided ? kChunkBytes : size;
    if (plan.dtypes[o] != plan.dtype ||
        view_of(plan, buffers, o).address % static_cast<uint64_t>(unit) != 0) {
      return false;
    }
    for (int d = 0; strided && d < inner; ++d) {
      if (plan.stride[o][d] * size % unit != 0) return false;
    }
  }
  return true;
}

}  // namespace

bool is_chunked(const Plan& plan, const Buffers& buffers, unsigned operands) {
  return plan.layout == Layout::kDense && has_aligned_chunks(plan, buffers, operands);
}

bool has_chunked_rows(const Plan& plan, const Buffers& buffers, unsigned operands) {
  return plan.layout == Layout::kRows &&
         plan.extent[plan.rank - 1] * size_of(plan.dtype) % kChunkBytes == 0 &&
         has_aligned_chunks(plan, buffers, operands);
}

DenseArguments dense_arguments(const Plan& plan, const Buffers& buffers, unsigned operands) {
  DenseArguments a{};
  const int size = size_of(plan.dtype);
  a.outer = plan.rank - 1;
  a.row_chunks = plan.extent[a.outer] * size / kChunkBytes;
  a.row_divisor = make_divisor(a.row_chunks);
  for (int d = 0; d < a.outer; ++d) {
    a.extent[d] = plan.extent[d];
    a.divisor[d] = make_divisor(plan.extent[d]);
  }
  for (int o = 0; o < kOperands; ++o) {
    if (!has_operand(operands, o)) continue;
    a.address[o] = view_of(plan, buffers, o).address;
    if (plan.stride[o][a.outer] != 0) a.strided |= 1U << o;
    for (int d = 0; d < a.outer; ++d) a.stride[o][d] = plan.stride[o][d] * size;
  }
  a.numel = plan.numel;
  a.scale = plan.scale;
  a.unless_one = may_hold_gradient(plan);
  return a;
}

bool tile_arguments(const ElementArguments& element, TileArguments* tile) {
  const int rank = element.nest.rank, column = rank - 1;
  if (rank < 2 || element.nest.extent[column] < kTileSide / 2) return false;
  // The dimension, other than the innermost, along which most operands are contiguous.
  const auto steps = [&](int o, int d) { return std::abs(element.view[o].stride[d]); };
  const auto is_along = [&](int o, int d) {
    return element.view[o].address != 0 && steps(o, d) == size_of(element.view[o].dtype) &&
           steps(o, column) > steps(o, d);
  };
  int row = -1, most = 0;
  for (int d = 0; d < column; ++d) {
    int count = 0;
    for (int o = 0; o < kOperands; ++o) count += is_along(o, d);
    if (count > most) most = count, row = d;
  }
  if (row < 0 || most > kTransposedMost || element.nest.extent[row] < kTileSide / 2) return false;
  *tile = {};
  tile->element = element;
  for (int o = 0; o < kOperands; ++o) {
    if (is_along(o, row)) tile->transposed |= 1U << o;
  }
  Nest& nest = tile->element.nest;
  for (int d = row; d + 1 < column; ++d) {  // moves the dimension next to the innermost
    std::swap(nest.extent[d], nest.extent[d + 1]);
    std::swap(nest.divisor[d], nest.divisor[d + 1]);
    for (View& view : tile->element.view) std::swap(view.stride[d], view.stride[d + 1]);
  }
  tile->tile_rows = ceil_div(nest.extent[rank - 2], kTileSide);
  tile->tile_columns = ceil_div(nest.extent[column], kTileSide);
  tile->row_divisor = make_divisor(tile->tile_rows);
  tile->column_divisor = make_divisor(tile->tile_columns);
  tile->tiles = tile->tile_rows * tile->tile_columns;
  for (int d = 0; d < rank - 2; ++d) tile->tiles *= nest.extent[d];
  return true;
}

uint32_t shape_sum(const DeviceInfo& device, const Nest& nest, bool columns, SumShape* shape) {
  const int64_t power = std::bit_ceil(static_cast<uint64_t>(std::clamp<int64_t>(nest.terms, 1, kThreads)));
  shape->team = static_cast<int>(power);
  shape->columns = columns && nest.slices > 1;
  if (shape->columns) {
    // Adjacent threads read adjacent slices: 32 of them, or all threads if there is little to sum.
    constexpr int64_t kWarp = 32, kShort = 8;
    const int64_t slices = nest.terms < kShort ? kThreads : kWarp;
    const uint64_t used = std::bit_ceil(static_cast<uint64_t>(std::min(nest.slices, slices)));
    shape->team = static_cast<int>(kThreads / used);
  }
  shape->groups = ceil_div(nest.slices, kThreads / shape->team);
  const int64_t wanted =
      std::max<int64_t>(1, int64_t{kBlocksPerProcessor} * device.multiprocessors / shape->groups);
  const int64_t useful = ceil_div(nest.terms, shape->team * device.min_terms);
  const int64_t parts = std::clamp<int64_t>(std::min(wanted, useful), 1, kMaxParts);
  shape->per_part = std::max<int64_t>(1, ceil_div(nest.terms, parts));
  const int64_t used = std::max<int64_t>(1, ceil_div(nest.terms, shape->per_part));
  shape->depth = depth_of(shape->per_part, shape->team) + (used > 1 ? depth_of(used, shape->team) : 0);
  return static_cast<uint32_t>(used);
}

uint32_t shape_dense_sum(const DeviceInfo& device, const DenseArguments& dense, int lanes, SumShape* shape) {
  *shape = {kThreads, false, 1, 0, 0};
  const int64_t chunks = kThreads * smaller_unroll(kChunkBytes / lanes);
  const int64_t tiles = std::max<int64_t>(1, ceil_div(dense.numel / lanes, chunks));
  const int64_t parts = std::min<int64_t>(tiles, int64_t{kBlocksPerProcessor} * device.multiprocessors);
  // A chain per unrolled chunk, one element of the tail, the tree over the chains.
  shape->depth = ceil_div(tiles, parts) * lanes + 1 + 4 + log2_of(kThreads) +
                 (parts > 1 ? depth_of(parts, kThreads) : 0);
  return static_cast<uint32_t>(parts);
}

uint32_t shape_exact_sum(const DeviceInfo& device, const Nest& nest, int64_t* per_part) {
  const int64_t wanted =
      std::max<int64_t>(1, int64_t{kBlocksPerProcessor} / 2 * device.multiprocessors / nest.slices);
  const int64_t useful = ceil_div(nest.terms, kThreads * device.min_terms);
  const int64_t parts = std::clamp<int64_t>(std::min(wanted, useful), 1, kMaxParts);
  *per_part = std::max<int64_t>(1, ceil_div(nest.terms, parts));
  return static_cast<uint32_t>(std::max<int64_t>(1, ceil_div(nest.terms, *per_part)));
}

std::string explain(const Plan& plan, const Buffers& buffers) {
  if (plan.numel == 0) return "nothing to compute";
  if (is_chunked(plan, buffers, plan.operands)) return "CUDA, dense: 16 bytes of every operand per load";
  if (has_chunked_rows(plan, buffers, plan.operands)) {
    return "CUDA, rows: 16 bytes of every contiguous operand per load";
  }
  const ElementArguments element = element_arguments(plan, buffers, plan.operands, {});
  const std::string rank =
      std::to_string(element.nest.rank) + (element.nest.rank == 1 ? " dimension" : " dimensions");
  if (TileArguments tile; tile_arguments(element, &tile)) {
    return "CUDA, tiles: " + rank + " after coalescing; " + std::to_string(std::popcount(tile.transposed)) +
           " of the operands are transposed in shared memory";
  }
  return "CUDA, general: " + rank + " after coalescing, one element per load";
}

uint32_t blocks_for(const DeviceInfo& device, int64_t tiles) {
  return static_cast<uint32_t>(std::clamp<int64_t>(tiles, 1, device.max_blocks));
}

}  // namespace mseloss::cuda
