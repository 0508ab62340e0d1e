// The arithmetic of tiling. The tiling function itself only reads its context.
#include <gtest/gtest.h>

#include "../../../op_host/mse_loss_v2_grad_split.h"
#include "register/op_impl_registry.h"

namespace {

using namespace optiling::mse_loss_split;

constexpr Platform kAtlasA2 = {false, 48, 196352, int64_t{192} << 20};
constexpr Platform kAscend310P = {true, 8, 262144, int64_t{16} << 20};

Call Flat(int64_t count, int64_t element_size, bool mean) {
  Call call = {};
  call.element_size = element_size;
  for (Dims* dims : {&call.input[0], &call.input[1], &call.y}) {
    dims->rank = 1;
    dims->dim[0] = count;
  }
  call.mean = mean;  // dout is 0-dimensional
  return call;
}

TEST(MseLossV2GradTiling, TilingFunction_IsRegistered) {
  const auto* implementation = gert::OpImplRegistry::GetInstance().GetOpImpl("MseLossV2Grad");
  ASSERT_NE(implementation, nullptr);
  EXPECT_NE(implementation->tiling, nullptr);
}

TEST(MseLossV2GradTiling, Cores_ShareTheTensorInUnitsOf512Bytes) {
  for (const int64_t count : {int64_t{1}, int64_t{1000}, int64_t{123457}, (int64_t{1} << 32) + 5}) {
    MseLossV2GradTilingData t;
    int64_t cores = 0;
    ASSERT_EQ(Split(Flat(count, 4, false), kAtlasA2, &t, &cores), nullptr);
    EXPECT_EQ(t.total, count);
    EXPECT_EQ(t.unit, 128);
    EXPECT_LE(cores, 48);
    EXPECT_LT(t.extra_cores, cores);
    EXPECT_EQ(t.base_units * cores + t.extra_cores, (count + 127) / 128);
    EXPECT_EQ(t.single[kMseDout], 1);
    EXPECT_EQ(t.scale, 2.0f);
  }
}

TEST(MseLossV2GradTiling, MeanScale_IsRoundedOnce) {
  MseLossV2GradTilingData t;
  int64_t cores = 0;
  ASSERT_EQ(Split(Flat(846731599, 4, true), kAtlasA2, &t, &cores), nullptr);
  EXPECT_NE(t.scale, static_cast<float>(2.0 / 846731599));
  ASSERT_EQ(Split(Flat(8, 4, true), kAtlasA2, &t, &cores), nullptr);
  EXPECT_EQ(t.scale, 0.25f);
}

TEST(MseLossV2GradTiling, RowsOfPartBlocks_RunOnOneCoreOf310P) {
  for (const int64_t row : {64, 75}) {
    Call call = Flat(row, 2, false);
    call.y = call.input[kMsePredict] = {2, {4000, row}};
    MseLossV2GradTilingData t;
    int64_t cores = 0;
    ASSERT_EQ(Split(call, kAscend310P, &t, &cores), nullptr);
    EXPECT_EQ(cores, row == 64 ? 8 : 1);
  }
}

TEST(MseLossV2GradTiling, BadShapes_AreRefused) {
  MseLossV2GradTilingData t;
  int64_t cores = 0;
  Call call = Flat(4, 4, false);
  call.input[kMseLabel].dim[0] = 3;
  EXPECT_NE(Split(call, kAtlasA2, &t, &cores), nullptr);
  EXPECT_NE(Split(Flat(-1, 4, false), kAtlasA2, &t, &cores), nullptr);
  EXPECT_NE(Split(Flat(INT64_MAX / 2, 4, false), kAtlasA2, &t, &cores), nullptr);
}

}  // namespace
