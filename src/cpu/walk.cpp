#include "cpu/walk.h"

#include <algorithm>

#include "cpu/tile_copy.h"

namespace mseloss::cpu {
namespace {

size_t tile_bytes(const Plan& plan, const Tiling& tiling, DType dtype) {
  const int64_t row = plan.rank == 0 ? 1 : tiling.box[plan.rank - 1];
  const int64_t elements = tiling.volume / row * (row + tiling.padding);
  return (static_cast<size_t>(elements) * size_of(dtype) + 63) / 64 * 64 + kTileSlack;
}

class Walk {
 public:
  Walk(const Plan& plan, const Tiling& tiling, char* const* data, char* scratch, Worker* worker)
      : plan_(plan), tiling_(tiling), worker_(*worker) {
    std::copy_n(data, kOperands, data_);
    for (int o = 0; o < kOperands; ++o) {
      if (!has(plan, o) || tiling.direct[o]) continue;
      tile_[o] = scratch;
      scratch += tile_bytes(plan, tiling, plan.dtype);
      if (plan.dtypes[o] == plan.dtype) continue;
      raw_[o] = scratch;
      scratch += tile_bytes(plan, tiling, plan.dtypes[o]);
    }
  }

  void box(int64_t index) {
    place(index);
    for (const int o : {kGradOutput, kInput, kTarget}) {
      if (has(plan_, o) && !tiling_.direct[o]) gather(o);
    }
    compute();
    for (const int o : {kOut, kOut2}) {
      if (has(plan_, o) && !tiling_.direct[o]) scatter(o);
    }
  }

 private:
  // The box's extents, its tile's strides and where each operand's part begins.
  void place(int64_t index) {
    int64_t stride = 1;
    int64_t first[kMaxRank];
    for (int d = plan_.rank; d-- > 0;) {
      first[d] = index % tiling_.boxes[d] * tiling_.box[d];
      index /= tiling_.boxes[d];
      extent_[d] = std::min(tiling_.box[d], plan_.extent[d] - first[d]);
      tile_stride_[d] = stride;
      stride *= extent_[d];
      if (d == plan_.rank - 1) stride += tiling_.padding;
    }
    volume_ = stride;  // padding included: conversions run over it
    for (int o = 0; o < kOperands; ++o) {
      if (!has(plan_, o)) continue;
      int64_t offset = 0;
      for (int d = 0; d < plan_.rank; ++d) offset += first[d] * plan_.stride[o][d];
      here_[o] = data_[o] + offset * size_of(plan_.dtypes[o]);
    }
  }

  // Operand o to its tile, or back.
  void copy(int o, Way way, const char* from, char* to) {
    if (!copies_[o][recent_[o]].fits(plan_.rank, extent_)) recent_[o] ^= 1;  // edges and interiors take turns
    TileCopy& copy = copies_[o][recent_[o]];
    if (!copy.fits(plan_.rank, extent_)) {
      copy.prepare(way, plan_.rank, extent_, plan_.stride[o], tile_stride_, size_of(plan_.dtypes[o]));
    }
    copy.copy(from, to);
  }

  void gather(int o) {
    // A broadcast operand's part is often the one that the tile still holds.
    if (held_[o] == here_[o] && std::equal(extent_, extent_ + plan_.rank, held_extent_[o])) return;
    held_[o] = here_[o];
    std::copy_n(extent_, plan_.rank, held_extent_[o]);
    char* raw = raw_[o] != nullptr ? raw_[o] : tile_[o];
    copy(o, Way::kGather, here_[o], raw);
    if (raw != tile_[o]) convert(plan_.dtypes[o], raw, plan_.dtype, tile_[o]);
  }

  void scatter(int o) {
    const char* raw = tile_[o];
    if (raw_[o] != nullptr) {
      convert(plan_.dtype, raw, plan_.dtypes[o], raw_[o]);
      raw = raw_[o];
    }
    copy(o, o == kOut && tiling_.stream ? Way::kStream : Way::kScatter, raw, here_[o]);
  }

  void convert(DType from_dtype, const char* from, DType to_dtype, char* to) const {
    kernels().convert[static_cast<int>(from_dtype)][static_cast<int>(to_dtype)](from, to, volume_);
  }

  // Where the walk reads (or writes) operand o, and with which strides.
  char* place_of(int o) const { return tiling_.direct[o] ? here_[o] : tile_[o]; }
  const int64_t* strides_of(int o) const { return tiling_.direct[o] ? plan_.stride[o] : tile_stride_; }

  void compute() {
    const int size = size_of(plan_.dtype), inner = plan_.rank - 1;
    const int row = tiling_.run - 1;  // the dimension of the kernels' rows, -1 if the box is one run
    Run run{};
    run.scale = plan_.scale;
    run.n = 1;
    for (int d = tiling_.run; d < plan_.rank; ++d) run.n *= extent_[d];
    run.rows = row < 0 ? 1 : extent_[row];
    const auto pitch = [&](int o) { return row < 0 || !has(plan_, o) ? 0 : strides_of(o)[row]; };
    for (const int o : {kGradOutput, kInput, kTarget}) {
      run.moves[o] = has(plan_, o) && strides_of(o)[inner] != 0;
      run.in_pitch[o] = pitch(o);
    }
    run.out_pitch = pitch(kOut);
    run.loss_pitch = pitch(kOut2);
    char* at[kOperands];
    int64_t step[kMaxRank][kOperands];  // bytes from one plane of rows to the next along each dimension
    for (int o = 0; o < kOperands; ++o) {
      at[o] = has(plan_, o) ? place_of(o) : nullptr;
      for (int d = 0; d < row; ++d) step[d][o] = has(plan_, o) ? strides_of(o)[d] * size : 0;
    }
    int64_t index[kMaxRank] = {};
    for (;;) {
      std::copy_n(at, 3, run.in);
      run.out = at[kOut];
      run.loss = at[kOut2];
      worker_(run);
      int d = row - 1;
      for (; d >= 0; --d) {
        const bool more = ++index[d] < extent_[d];
        const int64_t steps = more ? 1 : 1 - extent_[d];
        for (int o = 0; o < kOperands; ++o) at[o] += steps * step[d][o];
        if (more) break;
        index[d] = 0;
      }
      if (d < 0) return;
    }
  }

  const Plan& plan_;
  const Tiling& tiling_;
  Worker& worker_;
  char* data_[kOperands];
  char* tile_[kOperands] = {};
  char* raw_[kOperands] = {};  // tiles before (after) conversion, where the operand's dtype differs
  char* here_[kOperands] = {};
  const char* held_[kOperands] = {};
  int64_t held_extent_[kOperands][kMaxRank];
  int64_t extent_[kMaxRank];
  int64_t tile_stride_[kMaxRank];
  int64_t volume_ = 0;
  int recent_[kOperands] = {};
  TileCopy copies_[kOperands][2];
};

}  // namespace

size_t scratch_bytes(const Plan& plan, const Tiling& tiling) {
  size_t bytes = 0;
  for (int o = 0; o < kOperands; ++o) {
    if (!has(plan, o) || tiling.direct[o]) continue;
    bytes += tile_bytes(plan, tiling, plan.dtype);
    if (plan.dtypes[o] != plan.dtype) bytes += tile_bytes(plan, tiling, plan.dtypes[o]);
  }
  return bytes;
}

void walk(const Plan& plan, const Tiling& tiling, char* const* data, int64_t first, int64_t last,
          char* scratch, Worker* worker) {
  Walk walk(plan, tiling, data, scratch, worker);
  for (int64_t index = first; index < last; ++index) walk.box(index);
}

}  // namespace mseloss::cpu
