// The tiling data of one call, computed by op_host and read by op_kernel on every core. Plain data; the host
// sets every field.
#ifndef MSE_LOSS_V2_GRAD_TILING_H
#define MSE_LOSS_V2_GRAD_TILING_H

#include <cstdint>

constexpr int32_t kMseInputs = 3;  // predict, label, dout, always in this order
constexpr int32_t kMsePredict = 0;
constexpr int32_t kMseLabel = 1;
constexpr int32_t kMseDout = 2;
constexpr int32_t kMseOuterDims = 7;  // rank 8 without the row

// After merging adjacent dimensions with the same broadcast pattern, y consists of rows of `row_length`
// elements; a call without broadcasting is one row. An input with stride 0 along a dimension is broadcast
// there.
struct MseLossV2GradTilingData {
  int64_t total;         // elements of y
  int64_t unit;          // elements in 512 bytes; cores do not share a unit
  int64_t base_units;    // units per core
  int64_t extra_cores;   // number of leading cores with one additional unit
  int64_t row_length;    // elements
  int64_t size[3];       // elements of each input
  int64_t outer[7];      // extents of the dimensions outside the row, innermost first; 1 if unused
  int64_t stride[3][7];  // strides of each input along `outer`, in elements
  int32_t outer_rank;
  int32_t dense[3];        // 1: stride 1 along the row; 0: broadcast along the row
  int32_t single[3];       // 1: the input has one element, read before the loop
  int32_t bypass_l2[3];    // 1: read once and too large for L2
  int32_t y_bypass_l2;     // the same for writes of y
  int32_t tile;            // elements per tile; a multiple of 32 bytes
  int32_t tile_rows;       // rows per tile if whole rows fit, else 1
  int32_t step;            // elements widened to float at a time (float16, bfloat16)
  int32_t input_bytes[3];  // size of one buffer of each input
  int32_t value_slots;     // floats for the per-row values of each input (float16, bfloat16)
  float scale;             // 2, or 2 / numel(predict)
  int32_t reserved;        // pads to 8 bytes
};

static_assert(sizeof(MseLossV2GradTilingData) % 8 == 0, "tiling data is copied in 8-byte words");

#endif
