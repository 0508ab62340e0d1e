// What the host decides about one call and every core of it obeys. Shared by op_host and op_kernel: plain
// data, every field assigned by the host.
#ifndef MSE_LOSS_V2_GRAD_TILING_H
#define MSE_LOSS_V2_GRAD_TILING_H

#include <cstdint>

constexpr int32_t kMseInputs = 3;  // predict, label, dout: this order everywhere
constexpr int32_t kMsePredict = 0;
constexpr int32_t kMseLabel = 1;
constexpr int32_t kMseDout = 2;
constexpr int32_t kMseOuterDims = 7;  // rank 8 less the row

// y is seen as rows of `row_length` after neighbouring dimensions that broadcast alike were merged; a call
// without broadcasting is one row. An input repeats along a dimension where its stride is 0.
struct MseLossV2GradTilingData {
  int64_t total;         // elements of y
  int64_t unit;          // elements in 512 bytes: cores never share one
  int64_t base_units;    // units of every core
  int64_t extra_cores;   // the first cores that take one unit more
  int64_t row_length;    // elements
  int64_t size[3];       // elements of each input
  int64_t outer[7];      // extents outside the row, nearest first; 1 when unused
  int64_t stride[3][7];  // elements, of each input along `outer`
  int32_t outer_rank;
  int32_t dense[3];        // 1: the input advances along the row; 0: one value for the whole row
  int32_t once[3];         // 1: the input is a single element, read before the loop
  int32_t streamed[3];     // 1: read once and too large for L2 to keep
  int32_t y_streamed;      // the same for y
  int32_t tile;            // elements of a tile, a multiple of 32 bytes
  int32_t tile_rows;       // rows of a tile when whole rows fit, else 1
  int32_t step;            // elements widened to float at a time (float16, bfloat16)
  int32_t input_bytes[3];  // of one buffer of each input
  int32_t value_slots;     // floats kept for each input that has one value a row (float16, bfloat16)
  float scale;             // 2, or 2 / numel(predict)
  int32_t reserved;        // pads to 8 bytes
};

static_assert(sizeof(MseLossV2GradTilingData) % 8 == 0, "tiling data is copied in 8-byte words");

#endif
