// The kernel in CANN's CPU simulation: every element has the bits of three float32 operations.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "../../../op_host/mse_loss_v2_grad_split.h"
#include "../../../op_kernel/mse_loss_v2_grad_tiling.h"
#include "tikicpulib.h"

extern "C" __global__ __aicore__ void mse_loss_v2_grad(GM_ADDR predict, GM_ADDR label, GM_ADDR dout,
                                                       GM_ADDR y, GM_ADDR workspace, GM_ADDR tiling);

namespace {

struct GmBuffer {
  explicit GmBuffer(size_t bytes) : data(static_cast<uint8_t*>(AscendC::GmAlloc(bytes))) {}
  ~GmBuffer() { AscendC::GmFree(data); }
  GmBuffer(const GmBuffer&) = delete;
  GmBuffer& operator=(const GmBuffer&) = delete;
  float* floats() const { return reinterpret_cast<float*>(data); }
  uint8_t* data;
};

void Check(int64_t rows, int64_t columns, int64_t label_rows, bool scalar_dout) {
  using namespace optiling::mse_loss_split;
  const int64_t count = rows * columns, dout_count = scalar_dout ? 1 : count;
  Call call = {};
  call.element_size = 4;
  call.input[kMsePredict] = call.y = {2, {rows, columns}};
  call.input[kMseLabel] = {2, {label_rows, columns}};
  if (!scalar_dout) {
    call.input[kMseDout] = call.y;
  }
  call.mean = true;
  GmBuffer tiling(sizeof(MseLossV2GradTilingData));
  int64_t cores = 0;
  ASSERT_EQ(Split(call, {false, 8, 196352, int64_t{192} << 20},
                  reinterpret_cast<MseLossV2GradTilingData*>(tiling.data), &cores),
            nullptr);
  GmBuffer predict(count * 4), label(label_rows * columns * 4), dout(dout_count * 4), y(count * 4),
      workspace(32);
  for (int64_t i = 0; i < count; ++i) {
    predict.floats()[i] = static_cast<float>(i * 37 % 1001) / 7 - 50;
  }
  for (int64_t i = 0; i < label_rows * columns; ++i) {
    label.floats()[i] = static_cast<float>(i * 53 % 997) / 11 - 40;
  }
  for (int64_t i = 0; i < dout_count; ++i) {
    dout.floats()[i] = static_cast<float>(i % 9) / 3 - 1.25f;
  }
  AscendC::SetKernelMode(KernelMode::AIV_MODE);
  ICPU_RUN_KF(mse_loss_v2_grad, static_cast<uint32_t>(cores), predict.data, label.data, dout.data, y.data,
              workspace.data, tiling.data);
  const float scale = MeanScale(static_cast<uint64_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    volatile float expected = predict.floats()[i] - label.floats()[label_rows == 1 ? i % columns : i];
    expected = expected * scale;
    expected = expected * dout.floats()[scalar_dout ? 0 : i];
    ASSERT_EQ(y.floats()[i], expected) << "element " << i;
  }
}

TEST(MseLossV2GradKernel, EqualShapes_MatchTheFormula) {
  Check(1, 5, 1, false);
  Check(1, 4099, 1, false);
  Check(3, 20011, 3, false);
}

TEST(MseLossV2GradKernel, ScalarDout_MatchesTheFormula) { Check(2, 5000, 2, true); }

TEST(MseLossV2GradKernel, BroadcastLabel_MatchesTheFormula) { Check(37, 75, 1, true); }

}  // namespace
