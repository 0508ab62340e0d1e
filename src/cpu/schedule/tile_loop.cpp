#include "cpu/schedule/tile_loop.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <type_traits>

#include "cpu/pack/tile_packer.h"
#include "cpu/schedule/slice_sums.h"
#include "plan/parts.h"

namespace mseloss::cpu {
namespace {

size_t packed_bytes(const Plan& plan, const Tiling& tiling, DType dtype) {
  const int64_t row = plan.rank == 0 ? 1 : tiling.tile_extent[plan.rank - 1];
  const int64_t elements = tiling.tile_numel / row * (row + tiling.row_padding);
  return (static_cast<size_t>(elements) * size_of(dtype) + 63) / 64 * 64 + kPackedTileSlack;
}

class TileLoop {
 public:
  TileLoop(const Plan& plan, const Tiling& tiling, char* const* data, char* scratch, SweepRunner* runner)
      : plan_(plan), tiling_(tiling), runner_(*runner), sweep_(runner->sweep()) {
    std::copy_n(data, kOperands, data_);
    for (int o = 0; o < kOperands; ++o) {
      if (!has(plan, o) || tiling.direct[o]) continue;
      packed_[o] = scratch;
      scratch += packed_bytes(plan, tiling, kernel_dtype(plan, o));
      if (!is_converted(plan, o)) continue;
      unconverted_[o] = scratch;
      scratch += packed_bytes(plan, tiling, plan.dtypes[o]);
    }
  }

  // The next tiles run `sweep`, which accesses one element of `size` bytes for each slice.
  void set_slices(Sweep sweep, void* slices, int64_t size) {
    sweep_ = sweep;
    slices_ = slices;
    slice_size_ = size;
    has_whole_slices_ = tiling_.slice_tiles == 1;
    for (int d = 0; d < tiling_.row_dim; ++d) has_whole_slices_ = has_whole_slices_ && !is_reduced(plan_, d);
  }

  void run(int64_t index) {
    const bool sums_only = sweep_ == Sweep::kSliceSums;  // no grad_output and no output
    locate(index);
    for (const int o : {kGradOutput, kInput, kTarget, kWeight}) {
      if (has(plan_, o) && !tiling_.direct[o] && !(sums_only && o == kGradOutput)) pack(o);
    }
    compute();
    for (const int o : {kOut, kLossOut}) {
      if (has(plan_, o) && !tiling_.direct[o] && !sums_only) unpack(o);
    }
  }

  // Sums the slice at an index of the last tile exactly; the tile must have all of it.
  void sum_exactly(const int64_t* index, ExactSlice* slice) {
    int64_t extent[kMaxRank] = {};
    for (int d = 0; d < plan_.rank; ++d) extent[d] = is_reduced(plan_, d) ? extent_[d] : 1;
    for_each_block(index, extent, [&](const RowBlock& block) {
      runner_.exact_sum(block, {&slice->state, slice->limbs});
    });
  }

 private:
  // Sets the tile's extents, the packed tile's strides and the address of each operand's part.
  void locate(int64_t index) {
    int64_t stride = 1;
    int64_t first[kMaxRank];
    locate_tile(plan_, tiling_, index, first, extent_);
    for (int d = plan_.rank; d-- > 0;) {
      packed_stride_[d] = stride;
      stride *= extent_[d];
      if (d == plan_.rank - 1) stride += tiling_.row_padding;
    }
    packed_numel_ = stride;
    for (int o = 0; o < kOperands; ++o) {
      if (!has(plan_, o)) continue;
      int64_t offset = 0;
      for (int d = 0; d < plan_.rank; ++d) offset += first[d] * plan_.stride[o][d];
      address_[o] = data_[o] + offset * size_of(plan_.dtypes[o]);
    }
  }

  void copy(int o, Direction direction, const char* from, char* to) {
    // Two packers, one for interior tiles and one for those at an edge: preparing one costs as much as
    // copying a small tile.
    if (!packers_[o][recent_[o]].is_prepared_for(plan_.rank, extent_)) recent_[o] ^= 1;
    TilePacker& packer = packers_[o][recent_[o]];
    if (!packer.is_prepared_for(plan_.rank, extent_)) {
      packer.prepare(direction, plan_.rank, extent_, plan_.stride[o], packed_stride_,
                     size_of(plan_.dtypes[o]));
    }
    packer.copy(from, to, stage_);
  }

  void pack(int o) {
    // Successive tiles often share a broadcast operand's part.
    if (held_[o] == address_[o] && std::equal(extent_, extent_ + plan_.rank, held_extent_[o])) return;
    held_[o] = address_[o];
    std::copy_n(extent_, plan_.rank, held_extent_[o]);
    if (unconverted_[o] != nullptr && has_packed_layout(o)) {
      return convert(plan_.dtypes[o], address_[o], plan_.dtype, packed_[o]);
    }
    char* to = unconverted_[o] != nullptr ? unconverted_[o] : packed_[o];
    copy(o, Direction::kPack, address_[o], to);
    if (to != packed_[o]) convert(plan_.dtypes[o], to, plan_.dtype, packed_[o]);
  }

  // Whether the operand's part of the tile has the packed tile's strides, without padding.
  bool has_packed_layout(int o) const {
    int64_t count = 1;
    for (int d = 0; d < plan_.rank; ++d) count *= extent_[d];
    if (packed_numel_ != count) return false;
    for (int d = 0; d < plan_.rank; ++d) {
      if (extent_[d] > 1 && plan_.stride[o][d] != packed_stride_[d]) return false;
    }
    return true;
  }

  void unpack(int o) {
    const char* from = packed_[o];
    if (unconverted_[o] != nullptr) {
      convert(plan_.dtype, from, plan_.dtypes[o], unconverted_[o]);
      from = unconverted_[o];
    }
    const bool non_temporal = o == kOut && tiling_.non_temporal;
    copy(o, non_temporal ? Direction::kUnpackNonTemporal : Direction::kUnpack, from, address_[o]);
  }

  void convert(DType from_dtype, const char* from, DType to_dtype, char* to) const {
    if (from_dtype == DType::kBool) {
      return kernels().convert_mask[static_cast<int>(to_dtype)](from, to, packed_numel_);
    }
    kernels().convert[static_cast<int>(from_dtype)][static_cast<int>(to_dtype)](from, to, packed_numel_);
  }

  // The strides with which the kernels access operand o.
  const int64_t* kernel_strides(int o) const { return tiling_.direct[o] ? plan_.stride[o] : packed_stride_; }

  void compute() {
    const int64_t first[kMaxRank] = {};
    for_each_block(first, extent_, [&](const RowBlock& block) { runner_.run(sweep_, block); });
  }

  // Calls f(block) for the blocks of the part of the tile that begins at `first`; a row is in it as a whole,
  // or one element of it.
  template <class F>
  void for_each_block(const int64_t* first, const int64_t* extent, F f) const {
    const int inner = plan_.rank - 1;
    const int row_dim = tiling_.row_dim - 1;  // the dimension of a block's rows; -1 if the tile is one row
    RowBlock block{};
    block.scale = plan_.scale;
    block.masked = plan_.sliced && is_masked(plan_);
    block.n = 1;
    for (int d = tiling_.row_dim; d < plan_.rank; ++d) block.n *= extent[d];
    block.rows = row_dim < 0 ? 1 : extent[row_dim];
    int64_t step[kMaxRank][kOperands] = {};  // bytes from one block to the next along each dimension
    for_each_operand(plan_, [&](int o) {
      const int64_t* strides = kernel_strides(o);
      const int size = size_of(kernel_dtype(plan_, o));
      int64_t offset = 0;
      for (int d = 0; d < plan_.rank; ++d) offset += first[d] * strides[d];
      block.at[o] = (tiling_.direct[o] ? address_[o] : packed_[o]) + offset * size;
      block.strided[o] = strides[inner] != 0;
      if (row_dim >= 0) block.pitch[o] = strides[row_dim];
      for (int d = 0; d < row_dim; ++d) step[d][o] = strides[d] * size;
    });
    if (slices_ != nullptr) {
      int64_t strides[kMaxRank];
      block.plane = slice_strides(plan_, tiling_, extent_, strides);
      block.whole_slices = has_whole_slices_;
      block.at[kLossOut] = slices_;
      block.strided[kLossOut] = strides[inner] != 0;
      if (row_dim >= 0) block.pitch[kLossOut] = strides[row_dim];
      for (int d = 0; d < row_dim; ++d) step[d][kLossOut] = strides[d] * slice_size_;
    }
    int64_t index[kMaxRank] = {};
    for (;;) {
      f(block);
      int d = row_dim - 1;
      for (; d >= 0; --d) {
        const bool more = ++index[d] < extent[d];
        const int64_t steps = more ? 1 : 1 - extent[d];
        for (int o = 0; o < kOperands; ++o)
          block.at[o] = static_cast<char*>(block.at[o]) + steps * step[d][o];
        if (more) break;
        index[d] = 0;
      }
      if (d < 0) return;
    }
  }

  const Plan& plan_;
  const Tiling& tiling_;
  SweepRunner& runner_;
  Sweep sweep_;
  bool has_whole_slices_ = false;
  void* slices_ = nullptr;
  int64_t slice_size_ = 0;
  char* data_[kOperands];
  char* packed_[kOperands] = {};
  char* unconverted_[kOperands] = {};  // packed tile in the operand's own dtype; null if that is the kernels'
  char* address_[kOperands] = {};
  const char* held_[kOperands] = {};  // address of the operand's part that packed_ contains
  int64_t held_extent_[kOperands][kMaxRank];
  int64_t extent_[kMaxRank];
  int64_t packed_stride_[kMaxRank];
  int64_t packed_numel_ = 0;  // padding included: conversions run over it
  int recent_[kOperands] = {};
  TilePacker packers_[kOperands][2];
  alignas(64) char stage_[kStageBytes];
};

// The loop is placed in scratch memory, because its segment lists and staging buffer would take 70 KiB of the
// caller's stack.
constexpr size_t kLoopBytes = (sizeof(TileLoop) + 63) / 64 * 64;
static_assert(alignof(TileLoop) <= 64 && std::is_trivially_destructible_v<TileLoop>);

}  // namespace

size_t scratch_bytes(const Plan& plan, const Tiling& tiling) {
  size_t bytes = kLoopBytes;
  for (int o = 0; o < kOperands; ++o) {
    if (!has(plan, o) || tiling.direct[o]) continue;
    bytes += packed_bytes(plan, tiling, kernel_dtype(plan, o));
    if (is_converted(plan, o)) bytes += packed_bytes(plan, tiling, plan.dtypes[o]);
  }
  return (bytes + 63) / 64 * 64;
}

void run_tiles(const Plan& plan, const Tiling& tiling, char* const* data, int64_t first, int64_t last,
               char* scratch, SweepRunner* runner) {
  auto* const loop = new (scratch) TileLoop(plan, tiling, data, scratch + kLoopBytes, runner);
  for (int64_t index = first; index < last && !runner->interrupted(); ++index) loop->run(index);
}

int64_t run_slice_tiles(const Plan& plan, const Tiling& tiling, char* const* data, int64_t first,
                        int64_t last, int64_t parts, char* scratch, SweepRunner* runner, double* sums) {
  auto* const loop = new (scratch) TileLoop(plan, tiling, data, scratch + kLoopBytes, runner);
  const size_t bytes = slice_bytes(plan, tiling);
  const bool then_grad = runner->sweep() == Sweep::kSliceSumsThenGrad;
  // While the operands are in the caches, and where several slices are undecided, faster than run_plan().
  ExactSlices exact;
  if (parts == 1 && tiling.slice_tiles == 1) {
    exact.context = loop;
    exact.run = [](void* context, const int64_t* index, ExactSlice* slice) {
      static_cast<TileLoop*>(context)->sum_exactly(index, slice);
    };
  }
  int64_t pending = 0;
  for (int64_t unit = first; unit < last && !runner->interrupted(); ++unit) {
    const auto accumulators = [&](int64_t of) {
      return parts == 1 ? sums : sums + static_cast<size_t>(of) * (bytes / sizeof(double));
    };
    double* const own = accumulators(unit);
    const int64_t tiles = tiling.slice_tiles, begin = unit / parts * tiles, part = unit % parts;
    const int64_t end = tiles * (part + 1) / parts;
    const auto run_part = [&](Sweep sweep, void* slices, int64_t size) {
      loop->set_slices(sweep, slices, size);
      for (int64_t i = tiles * part / parts; i < end && !runner->interrupted(); ++i) loop->run(begin + i);
    };
    const SliceTile tile(plan, tiling, unit / parts);
    const int64_t scale_size = size_of(compute_dtype(plan));
    if (runner->sweep() == Sweep::kSliceGrad) {
      run_part(Sweep::kSliceGrad, scales_of(plan, tile, accumulators(unit / parts * parts)), scale_size);
      continue;
    }
    std::memset(own, 0, bytes);
    run_part(then_grad ? Sweep::kSliceSums : runner->sweep(), own, sizeof(double));
    if (parts != 1) continue;
    const SliceScales scales = then_grad ? find_scales(plan, tile, exact, own) : SliceScales();
    pending += finish_slice_tile(plan, tile, data[kLossOut], own, exact, scales);
    if (then_grad) run_part(Sweep::kSliceGrad, scales.at, scale_size);
  }
  return pending;
}

}  // namespace mseloss::cpu
