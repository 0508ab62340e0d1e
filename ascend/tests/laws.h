// Invariants of every tiling, checked without running the kernel.
#pragma once

#include "support.h"

namespace ascend_tests {

struct Tiling {
  std::string refusal;
  uint32_t blocks = 0;
  MseLossV2GradTilingData data{};
};

inline Tiling TilingOf(const Request& request,
                       const ascend_model::Operator& op = ascend_model::MseLossV2Grad()) {
  Tiling tiling;
  tiling.refusal = ascend_model::Tile(op, request, &tiling.data, &tiling.blocks);
  return tiling;
}

// UB bytes that a core allocates, with each buffer rounded up to 32 bytes.
inline int64_t UbBytes(const MseLossV2GradTilingData& t, int64_t width) {
  const auto round = [](int64_t bytes) { return (bytes + 31) / 32 * 32; };
  int64_t bytes = 2 * round(t.tile * width);
  for (int i = 0; i < 3; ++i) {
    bytes += (t.single[i] != 0 ? 1 : 2) * round(t.input_bytes[i]);
  }
  return bytes + (width < 4 ? round(8 * int64_t{t.step}) + round(12 * int64_t{t.value_slots}) : 0);
}

inline std::string SplitLaws(const Request& request, const Tiling& tiling) {
  const MseLossV2GradTilingData& t = tiling.data;
  const int64_t width = WidthOf(request.dtype);
  if (tiling.blocks < 1 || tiling.blocks > request.vector_cores) {
    return "more blocks than cores, or none";
  }
  if (t.unit * width != 512) {
    return "cores are not split by 512 bytes";
  }
  if (t.extra_cores < 0 || t.extra_cores >= tiling.blocks) {
    return "the load of two cores differs by more than one unit";
  }
  const int64_t units = t.base_units * tiling.blocks + t.extra_cores;
  if (units * t.unit < t.total || (units - 1) * t.unit >= std::max<int64_t>(t.total, 1)) {
    return "the cores' parts do not cover y exactly once";
  }
  if (t.total > 0 && t.base_units == 0) {
    return "a core without work";
  }
  if (request.chip == Chip::kAscend310P && t.outer_rank > 0 && t.row_length * width % 32 != 0) {
    // The scalar unit writes the ends of rows in whole cache lines.
    return tiling.blocks == 1 && t.tile_rows == 1 ? "" : "rows that end inside a block on several cores";
  }
  if (t.total * width >= 4096 * int64_t{request.vector_cores} && tiling.blocks != request.vector_cores) {
    return "a large tensor on few cores";
  }
  if (t.total * width <= 4096 && tiling.blocks != 1) {
    return "a small tensor on many cores";
  }
  return "";
}

inline std::string BufferLaws(const Request& request, const Tiling& tiling) {
  const MseLossV2GradTilingData& t = tiling.data;
  const int64_t width = WidthOf(request.dtype);
  if (UbBytes(t, width) > static_cast<int64_t>(request.ub_bytes) - 8192) {
    return "the buffers exceed the unified buffer";
  }
  if (t.tile < 1 || t.tile * width % 32 != 0 || t.tile_rows < 1 || t.step < 1) {
    return "an empty or unaligned tile";
  }
  const int64_t pitch = (t.row_length * width + 31) / 32 * 32;
  if (t.tile_rows > 1 && pitch * t.tile_rows > t.tile * width) {
    return "the rows of a tile do not fit it";
  }
  for (int i = 0; i < 3; ++i) {
    const int64_t needed = t.single[i] != 0 ? 1 : t.dense[i] != 0 ? t.tile : t.tile_rows;
    if (t.input_bytes[i] < needed * width) {
      return "an input's buffer does not hold its part of a tile";
    }
    if (width < 4 && t.dense[i] == 0 && t.value_slots < (t.single[i] != 0 ? 1 : t.tile_rows)) {
      return "too few slots for the values of a tile's rows";
    }
  }
  const int64_t run = std::min(t.row_length, t.base_units * t.unit);
  if (request.ub_bytes >= 196352 && t.tile * width < std::min<int64_t>(run * width, 16384)) {
    return "transfers below 16 KB although the size allows them";
  }
  return "";
}

// Compares rows, strides and scale with the oracle at sampled elements.
inline std::string ShapeLaws(const Request& request, const Tiling& tiling, cases::Random& random) {
  const MseLossV2GradTilingData& t = tiling.data;
  if (t.total != oracle::count_of(request.y_shape)) {
    return "the count of y is wrong";
  }
  const int64_t n = oracle::count_of(request.predict.shape);
  const float scale = request.reduction == "mean" && n > 0
                          ? static_cast<float>(oracle::two_over(static_cast<uint64_t>(n), 24))
                          : 2.0f;
  if (t.scale != scale) {
    return "the scale is not 2 / numel(predict) correctly rounded";
  }
  if (t.total == 0) {
    return "";
  }
  int64_t rows = 1;
  for (int i = 0; i < t.outer_rank; ++i) {
    rows *= t.outer[i];
  }
  if (rows * t.row_length != t.total) {
    return "the rows do not cover y";
  }
  const ascend_model::Tensor* inputs[] = {&request.predict, &request.label, &request.dout};
  for (int sample = 0; sample < 8; ++sample) {
    const int64_t element = sample == 0 ? t.total - 1 : random.range(0, t.total - 1);
    for (int i = 0; i < 3; ++i) {
      int64_t row = element / t.row_length;
      int64_t offset = t.dense[i] != 0 ? element % t.row_length : 0;
      for (int d = 0; d < t.outer_rank; ++d) {
        offset += row % t.outer[d] * t.stride[i][d];
        row /= t.outer[d];
      }
      if (offset != oracle::offset_of(inputs[i]->shape, {}, request.y_shape, element)) {
        return "an element of y meets the wrong element of an input";
      }
    }
  }
  return "";
}

inline std::string Laws(const Request& request, cases::Random& random,
                        const ascend_model::Operator& op = ascend_model::MseLossV2Grad()) {
  const Tiling tiling = TilingOf(request, op);
  if (!tiling.refusal.empty()) {
    return "refused: " + tiling.refusal;
  }
  for (const std::string& broken :
       {ShapeLaws(request, tiling, random), SplitLaws(request, tiling), BufferLaws(request, tiling)}) {
    if (!broken.empty()) {
      return broken;
    }
  }
  return "";
}

}  // namespace ascend_tests
