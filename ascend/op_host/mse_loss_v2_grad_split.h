// The arithmetic of tiling: shapes and a chip in, the tiling data and the number of cores out. The operator
// package and the direct launch share it.
#ifndef MSE_LOSS_V2_GRAD_SPLIT_H
#define MSE_LOSS_V2_GRAD_SPLIT_H

#include <cmath>
#include <cstdint>

#include "../op_kernel/mse_loss_v2_grad_tiling.h"
#include "tiling/platform/platform_ascendc.h"

namespace optiling {
namespace mse_loss_split {

constexpr int64_t kMaxRank = 8;
constexpr int64_t kBlockBytes = 32;        // alignment of UB operands
constexpr int64_t kUnitBytes = 512;        // concurrent writes of two cores to one such range are slow
constexpr int64_t kBytesPerCore = 4096;    // of y; with less, an additional core costs more than it saves
constexpr int64_t kReservedUb = 8192;      // reserved by the compiler, included in GetCoreMemSize
constexpr int64_t kTransferBytes = 16384;  // minimum size of a transfer at full bandwidth
constexpr int64_t kStep = 4096;  // floats widened at a time: 64 repeats amortise an instruction's start-up
constexpr int64_t kMaxTileRows = 512;         // limits the buffer of per-row values of column inputs
constexpr int64_t kMaxBytes = INT64_MAX / 8;  // the total size of the four tensors must fit 64 bits

struct Dims {
  int64_t rank;  // at most kMaxRank
  int64_t dim[kMaxRank];
};

struct Call {
  int64_t element_size;
  Dims input[kMseInputs];
  Dims y;
  bool mean;
};

struct Platform {
  bool whole_blocks;  // 310P: no bfloat16; copies move whole 32-byte blocks, the scalar unit moves the rest
  int64_t cores;
  int64_t ub;
  int64_t l2;
};

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t AlignUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }
inline int64_t AlignDown(int64_t a, int64_t b) { return a / b * b; }
inline int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t Max(int64_t a, int64_t b) { return a > b ? a : b; }

inline int64_t Count(const Dims& shape) {
  int64_t count = 1;
  for (int64_t i = 0; i < shape.rank; ++i) {
    count *= shape.dim[i];
  }
  return count;
}

// 2 / n rounded once, by bitwise long division. float(2.0 / n) rounds twice; its first wrong result is at
// n = 846731599.
inline float MeanScale(uint64_t n) {
  uint64_t remainder = 2;
  int exponent = 0;
  while (remainder >= 2 * n) {
    remainder >>= 1;
    ++exponent;
  }
  while (remainder < n) {
    remainder <<= 1;
    --exponent;
  }
  uint32_t bits = 0;
  for (int i = 0; i < 25; ++i) {  // 24 result bits and one rounding bit
    const uint64_t bit = remainder >= n ? 1 : 0;
    bits = bits << 1 | static_cast<uint32_t>(bit);
    remainder = (remainder - bit * n) << 1;
  }
  const bool up = (bits & 1) != 0 && (remainder != 0 || (bits & 2) != 0);
  return std::ldexp(static_cast<float>((bits >> 1) + (up ? 1 : 0)), exponent - 23);
}

// Null for a valid shape, else the reason of the error.
inline const char* CheckShape(const Dims& shape, int64_t element_size) {
  int64_t count = 1;
  for (int64_t i = 0; i < shape.rank; ++i) {
    if (shape.dim[i] < 0 || (shape.dim[i] > 0 && count > kMaxBytes / element_size / shape.dim[i])) {
      return "a shape has a negative dimension or too many bytes";
    }
    count *= shape.dim[i] > 0 ? shape.dim[i] : 1;
  }
  return nullptr;
}

inline const char* CheckShapes(const Call& call) {
  const char* reason = CheckShape(call.y, call.element_size);
  for (const Dims& input : call.input) {
    reason = reason == nullptr ? CheckShape(input, call.element_size) : reason;
    if (reason == nullptr && input.rank > call.y.rank) {
      reason = "y must have the broadcast shape of predict, label and dout";
    }
  }
  for (int64_t from_end = 1; reason == nullptr && from_end <= call.y.rank; ++from_end) {
    int64_t merged = 1;
    for (const Dims& input : call.input) {
      const int64_t dim = from_end <= input.rank ? input.dim[input.rank - from_end] : 1;
      if (dim != 1 && merged != 1 && dim != merged) {
        return "predict, label and dout do not broadcast together";
      }
      merged = dim != 1 ? dim : merged;
    }
    if (merged != call.y.dim[call.y.rank - from_end]) {
      reason = "y must have the broadcast shape of predict, label and dout";
    }
  }
  return reason;
}

// Merges adjacent dimensions in which the same inputs are broadcast. The innermost remaining dimension is the
// row.
inline void Coalesce(const Call& call, MseLossV2GradTilingData* t) {
  int32_t merged = 0;  // merged dimensions so far, including the row
  uint32_t last_pattern = 0;
  t->row_length = 1;
  int64_t advance[kMseInputs] = {1, 1, 1};  // elements of each input inside the current dimension
  for (int64_t from_end = 1; from_end <= call.y.rank; ++from_end) {
    const int64_t extent = call.y.dim[call.y.rank - from_end];
    if (extent == 1) {
      continue;
    }
    uint32_t pattern = 0;
    for (int32_t i = 0; i < kMseInputs; ++i) {
      const Dims& input = call.input[i];
      const bool present = from_end <= input.rank && input.dim[input.rank - from_end] != 1;
      pattern |= present ? 1U << i : 0U;
    }
    if (merged == 0) {
      t->row_length = extent;
      for (int32_t i = 0; i < kMseInputs; ++i) {
        t->dense[i] = (pattern >> i) & 1U;
      }
      merged = 1;
    } else if (pattern == last_pattern) {
      int64_t* longer = merged == 1 ? &t->row_length : &t->outer[merged - 2];
      *longer *= extent;
    } else {
      t->outer[merged - 1] = extent;
      for (int32_t i = 0; i < kMseInputs; ++i) {
        t->stride[i][merged - 1] = ((pattern >> i) & 1U) != 0 ? advance[i] : 0;
      }
      ++merged;
    }
    for (int32_t i = 0; i < kMseInputs; ++i) {
      advance[i] *= ((pattern >> i) & 1U) != 0 ? extent : 1;
    }
    last_pattern = pattern;
  }
  t->outer_rank = Max(merged - 1, 0);
}

// Distributes whole 512-byte units evenly: core loads differ by at most one unit. Returns the number of
// cores.
inline int64_t SplitCores(const Platform& platform, int64_t element_size, MseLossV2GradTilingData* t) {
  t->unit = kUnitBytes / element_size;
  const int64_t units = CeilDiv(t->total, t->unit);
  const int64_t cores = Max(1, Min(platform.cores, CeilDiv(t->total * element_size, kBytesPerCore)));
  t->base_units = units / cores;
  t->extra_cores = units % cores;
  return cores;
}

// Partitions UB; false if it cannot hold one block of every operand.
inline bool SplitUb(const Platform& platform, int64_t element_size, MseLossV2GradTilingData* t) {
  const int64_t block = kBlockBytes / element_size;
  const bool widen = element_size < 4;
  int64_t budget = AlignDown(platform.ub - kReservedUb, kBlockBytes);
  const int64_t max_rows = Min(kMaxTileRows, Max(8, AlignDown(budget / 256, 8)));
  const int64_t value_bytes = AlignUp(max_rows * element_size, kBlockBytes);
  int64_t bytes = 2 * element_size;  // UB bytes per tile element: two buffers for y and for each dense input
  bool value_per_row = false;
  for (int32_t i = 0; i < kMseInputs; ++i) {
    const bool value = t->dense[i] == 0 && t->single[i] == 0;
    bytes += t->dense[i] != 0 ? 2 * element_size : 0;
    budget -= t->single[i] != 0 ? kBlockBytes : value ? 2 * value_bytes : 0;
    value_per_row = value_per_row || value;
  }
  t->value_slots = value_per_row ? max_rows : 8;
  budget -= widen ? kMseInputs * t->value_slots * static_cast<int64_t>(sizeof(float)) : 0;

  const int64_t floats = widen ? 2 * static_cast<int64_t>(sizeof(float)) : 0;  // two buffers of `step`
  int64_t tile = budget / (bytes + floats);
  if (widen && tile >= kStep) {
    tile = (budget - kStep * floats) / bytes;
  }
  tile = tile >= t->unit ? AlignDown(tile, t->unit) : AlignDown(tile, block);
  if (budget <= 0 || tile < block) {
    return false;
  }
  // Prefer tiles of equal length to full tiles and a short last one, but no tile below an efficient transfer.
  const int64_t most = (t->base_units + (t->extra_cores > 0 ? 1 : 0)) * t->unit;
  const int64_t run = Max(1, Min(t->row_length, most));
  const int64_t align = tile >= t->unit ? t->unit : block;
  const int64_t balanced = Max(CeilDiv(run, CeilDiv(run, tile)), Min(run, kTransferBytes / element_size));
  t->tile = static_cast<int32_t>(Min(AlignUp(balanced, align), tile));
  t->tile_rows = 1;
  const int64_t pitch = AlignUp(Max(1, t->row_length), block);
  if (t->total > 0 && t->outer_rank > 0 && pitch <= tile) {
    t->tile_rows = static_cast<int32_t>(Min(Min(tile / pitch, max_rows), t->outer[0]));
    t->tile = static_cast<int32_t>(Max(t->tile, t->tile_rows * pitch));
  }
  t->step = static_cast<int32_t>(widen ? Min(kStep, t->tile) : t->tile);
  for (int32_t i = 0; i < kMseInputs; ++i) {
    t->input_bytes[i] = static_cast<int32_t>(t->dense[i] != 0    ? t->tile * element_size
                                             : t->single[i] != 0 ? kBlockBytes
                                                                 : value_bytes);
  }
  return true;
}

inline Platform PlatformOf(const platform_ascendc::PlatformAscendC& device) {
  Platform platform;
  uint64_t bytes = 0;
  platform.whole_blocks = device.GetSocVersion() == platform_ascendc::SocVersion::ASCEND310P;
  platform.cores = Min(device.GetCoreNumAiv(), 65535);
  device.GetCoreMemSize(platform_ascendc::CoreMemType::UB, bytes);
  platform.ub = static_cast<int64_t>(bytes);
  device.GetCoreMemSize(platform_ascendc::CoreMemType::L2, bytes);
  platform.l2 = static_cast<int64_t>(bytes);
  return platform;
}

// Null on success, else the reason of the error. Sets every field of *t.
inline const char* Split(const Call& call, Platform platform, MseLossV2GradTilingData* t, int64_t* cores) {
  const char* reason = CheckShapes(call);
  if (reason != nullptr) {
    return reason;
  }
  if (platform.cores < 1) {
    return "the platform reports no vector core";
  }
  *t = MseLossV2GradTilingData();
  t->total = Count(call.y);
  for (int32_t i = 0; i < kMseOuterDims; ++i) {
    t->outer[i] = 1;
  }
  Coalesce(call, t);
  int64_t moved = t->total * call.element_size;
  for (int32_t i = 0; i < kMseInputs; ++i) {
    t->size[i] = Count(call.input[i]);
    t->single[i] = t->size[i] == 1 && t->dense[i] == 0 ? 1 : 0;
    moved += t->size[i] * call.element_size;
  }
  for (int32_t i = 0; i < kMseInputs; ++i) {
    t->bypass_l2[i] = moved > platform.l2 && t->size[i] == t->total ? 1 : 0;
  }
  t->y_bypass_l2 = moved > platform.l2 ? 1 : 0;
  t->scale =
      call.mean && t->size[kMsePredict] > 0 ? MeanScale(static_cast<uint64_t>(t->size[kMsePredict])) : 2.0f;

  // The scalar unit writes whole 64-byte lines. Without rows it writes only to the end of y, in the last
  // core.
  const bool part_blocks = t->row_length * call.element_size % kBlockBytes != 0;
  const bool split_rows = platform.whole_blocks && t->outer_rank > 0 && part_blocks;
  if (split_rows) {
    platform.cores = 1;
  }
  *cores = SplitCores(platform, call.element_size, t);
  if (!SplitUb(platform, call.element_size, t)) {
    return "the unified buffer is too small";
  }
  if (split_rows) {
    t->tile_rows = 1;
  }
  return nullptr;
}

}  // namespace mse_loss_split
}  // namespace optiling

#endif
