// First phase of aclnnMseLossBackward: every error, its code and message, and the order of the checks.
#include "tests/cann/session.h"

namespace {

using cann::Dims;
using cann::expect_message;
using cann::Tensor;

class BackwardErrors : public cann::Test {
 protected:
  float memory[64] = {};
  float more[64] = {};
  float result[64] = {};
  float grad[64] = {};
  uint64_t workspace = 77;
  aclOpExecutor* executor = nullptr;

  aclnnStatus plan(const aclTensor* g, const aclTensor* x, const aclTensor* y, int64_t reduction,
                   aclTensor* out) {
    return aclnnMseLossBackwardGetWorkspaceSize(g, x, y, reduction, out, &workspace, &executor);
  }
  void expect_untouched() {
    EXPECT_EQ(workspace, 77u);
    EXPECT_EQ(executor, nullptr);
  }
  void expect_refused(const aclTensor* g, const aclTensor* x, const aclTensor* y, int64_t reduction,
                      aclTensor* out, const char* parameter, const char* given) {
    EXPECT_EQ(plan(g, x, y, reduction, out), ACLNN_ERR_PARAM_INVALID);
    expect_message("aclnnMseLossBackward", parameter, given);
    expect_untouched();
  }
};

TEST_F(BackwardErrors, NullArgument_Is161001AndNamed) {
  Tensor x(memory, {2}), y(more, {2}), out(result, {2});
  const struct {
    const aclTensor *g, *x, *y;
    aclTensor* out;
    const char* name;
  } cases[] = {{nullptr, x, y, out, "gradOutput"},
               {x, nullptr, y, out, "self"},
               {x, x, nullptr, out, "target"},
               {x, x, y, nullptr, "out"}};
  for (const auto& c : cases) {
    EXPECT_EQ(plan(c.g, c.x, c.y, 9, c.out), ACLNN_ERR_PARAM_NULLPTR);
    expect_message("aclnnMseLossBackward", c.name, "null");
    expect_untouched();
  }
  EXPECT_EQ(aclnnMseLossBackwardGetWorkspaceSize(x, x, y, 0, out, nullptr, &executor),
            ACLNN_ERR_PARAM_NULLPTR);
  expect_message("aclnnMseLossBackward", "workspaceSize", "null");
  EXPECT_EQ(aclnnMseLossBackwardGetWorkspaceSize(x, x, y, 0, out, &workspace, nullptr),
            ACLNN_ERR_PARAM_NULLPTR);
  expect_message("aclnnMseLossBackward", "executor", "null");
}

TEST_F(BackwardErrors, NullIsFoundBeforeDtype) {
  Tensor x(memory, {2}, ACL_INT32), out(result, {2});
  EXPECT_EQ(plan(x, x, nullptr, 0, out), ACLNN_ERR_PARAM_NULLPTR);
}

TEST_F(BackwardErrors, DestroyedTensor_Is161002) {
  Tensor x(memory, {2}), out(result, {2}), gone(more, {2});
  aclTensor* stale = gone;
  gone.destroy();
  expect_refused(x, x, stale, 0, out, "target", "0x");
}

TEST_F(BackwardErrors, PointerThatIsNoTensor_Is161002) {
  Tensor x(memory, {2}), out(result, {2});
  expect_refused(x, x, reinterpret_cast<aclTensor*>(memory), 0, out, "target", "0x");
}

TEST_F(BackwardErrors, DtypesThatDiffer_Are161002) {
  Tensor f(memory, {2}), h(more, {2}, ACL_FLOAT16), out(result, {2});
  expect_refused(h, f, f, 0, out, "gradOutput", "float16");
  expect_refused(f, f, h, 0, out, "target", "float16");
  expect_refused(f, h, f, 0, out, "gradOutput", "float32");
}

TEST_F(BackwardErrors, DtypeOutsideTheThree_Is161002) {
  for (const aclDataType dtype :
       {ACL_DT_UNDEFINED, ACL_INT8, ACL_INT32, ACL_UINT8, ACL_INT16, ACL_UINT16, ACL_UINT32, ACL_INT64,
        ACL_UINT64, ACL_DOUBLE, ACL_BOOL, ACL_STRING, ACL_COMPLEX64, ACL_COMPLEX128, ACL_INT4, ACL_HIFLOAT8,
        ACL_FLOAT8_E5M2, ACL_FLOAT4_E1M2}) {
    Tensor bad(memory, {2}, dtype), good(more, {2}), out(result, {2}), bad_out(result, {2}, dtype);
    const std::string given = "aclDataType " + std::to_string(dtype);
    expect_refused(bad, bad, bad, 0, out, "self", given.c_str());
    expect_refused(good, good, good, 0, bad_out, "out", given.c_str());
  }
}

TEST_F(BackwardErrors, DtypeIsFoundBeforeReduction) {
  Tensor x(memory, {2}), h(more, {2}, ACL_FLOAT16), out(result, {2});
  expect_refused(h, x, x, 7, out, "gradOutput", "float16");
}

TEST_F(BackwardErrors, ReductionOutsideZeroToTwo_Is161002) {
  Tensor x(memory, {2}), out(result, {3});  // the shape of out is wrong too, but is checked later
  for (const int64_t reduction : {int64_t{-1}, int64_t{3}, int64_t{256}, INT64_MIN, INT64_MAX}) {
    expect_refused(x, x, x, reduction, out, "reduction", std::to_string(reduction).c_str());
  }
}

TEST_F(BackwardErrors, RankAboveEight_Is161002) {
  const Dims nine(9, 1), eight(8, 1);
  Tensor x(memory, eight), deep(more, nine), out(result, eight), deep_out(result, nine);
  expect_refused(deep, x, x, 0, out, "gradOutput", "9");
  expect_refused(x, deep, x, 0, out, "self", "9");
  expect_refused(x, x, deep, 0, out, "target", "9");
  expect_refused(x, x, x, 0, deep_out, "out", "9");
}

TEST_F(BackwardErrors, ShapesThatDoNotBroadcast_Are161002) {
  Tensor a(memory, {2, 3}), b(more, {2, 4}), out(result, {2, 3});
  expect_refused(a, a, b, 0, out, "target", "(2, 4)");
}

TEST_F(BackwardErrors, OutOfAnotherShape_Is161002) {
  Tensor a(memory, {2, 3}), row(more, {3}), small(result, {3}), padded(result, {1, 2, 3});
  expect_refused(a, row, row, 0, small, "out", "(3)");
  expect_refused(a, row, row, 0, padded, "out", "(1, 2, 3)");
}

TEST_F(BackwardErrors, PrivateFormatWithAnotherStorage_Is161002) {
  for (const aclFormat format : {static_cast<aclFormat>(999), ACL_FORMAT_NC1HWC0, ACL_FORMAT_FRACTAL_Z,
                                 ACL_FORMAT_NC1HWC0_C04, ACL_FORMAT_FRACTAL_NZ, ACL_FORMAT_NDC1HWC0,
                                 ACL_FRACTAL_Z_3D, ACL_FORMAT_FRACTAL_NZ_C0_16, ACL_FORMAT_FRACTAL_NZ_C0_8}) {
    Tensor x(memory, {2}), out(result, {2});
    Tensor blocked(more, {2}, ACL_FLOAT, {.storage = {1, 1, 16, 16}, .format = format});
    expect_refused(x, x, blocked, 0, out, "target", std::to_string(format).c_str());
  }
}

TEST_F(BackwardErrors, ViewThatLeavesItsStorage_Is161002) {
  Tensor x(memory, {4}), out(result, {4});
  const cann::View leaving[] = {{.offset = 1, .storage = {4}},
                                {.strides = {2}, .storage = {6}},
                                {.offset = -1, .storage = {8}},
                                {.strides = {-1}, .offset = 2, .storage = {8}},
                                {.strides = {int64_t{1} << 40}, .storage = {8}},
                                {.storage = {0}},
                                {.storage = {}},
                                {.offset = INT64_MAX / 2, .storage = {INT64_MAX}}};  // bytes do not fit
  for (const auto& view : leaving) {
    Tensor y(more, {4}, ACL_FLOAT, view);
    expect_refused(x, x, y, 0, out, "target", "exceeds");
  }
  const cann::View inside[] = {{.offset = 4, .storage = {2, 4}},
                               {.strides = {2}, .offset = 1, .storage = {8}},
                               {.strides = {-1}, .offset = 3, .storage = {4}},
                               {.strides = {0}, .storage = {1}},
                               {.storage = {INT64_MAX, INT64_MAX}}};
  for (const auto& view : inside) {
    Tensor y(more, {4}, ACL_FLOAT, view);
    ASSERT_EQ(plan(x, x, y, 0, out), ACLNN_SUCCESS) << aclGetRecentErrMsg();
    EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
  }
}

TEST_F(BackwardErrors, AnyOffsetOfAViewWithoutElements_IsAccepted) {
  Tensor x(memory, {0}), out(result, {0});
  for (const int64_t offset : {INT64_MAX, INT64_MAX / 3, INT64_MIN}) {
    Tensor y(more, {0}, ACL_FLOAT, {.offset = offset, .storage = {4}});
    ASSERT_EQ(plan(x, x, y, 0, out), ACLNN_SUCCESS) << aclGetRecentErrMsg();
    EXPECT_EQ(aclnnMseLossBackward(nullptr, 0, executor, stream), ACLNN_SUCCESS) << aclGetRecentErrMsg();
  }
}

TEST_F(BackwardErrors, OutThatOverlapsItself_Is161002) {
  Tensor x(memory, {2, 4}), out(result, {2, 4}, ACL_FLOAT, {.strides = {1, 1}, .storage = {64}});
  Tensor expanded(result, {2, 4}, ACL_FLOAT, {.strides = {0, 1}, .storage = {64}});
  expect_refused(x, x, x, 0, out, "out", "overlap");
  expect_refused(x, x, x, 0, expanded, "out", "overlap");
}

TEST_F(BackwardErrors, OutThatPartlyOverlapsAnInput_Is161002) {
  Tensor x(memory, {4}), shifted(memory + 1, {4}), g(grad, {4}), y(more, {4}), square(more, {2, 2}),
      side(grad, {2, 2});
  Tensor transposed(more, {2, 2}, ACL_FLOAT, {.strides = {1, 2}});
  expect_refused(g, x, y, 0, shifted, "out", "self");
  expect_refused(side, square, side, 0, transposed, "out", "self");
  Tensor narrow(memory, {4}, ACL_FLOAT16);
  expect_refused(g, x, y, 0, narrow, "out", "self");
}

TEST_F(BackwardErrors, Message_IsTheThreadsOwnReadOnceAndCleared) {
  Tensor x(memory, {2}), out(result, {2});
  EXPECT_STREQ(aclGetRecentErrMsg(), "");
  EXPECT_EQ(plan(x, x, x, 5, out), ACLNN_ERR_PARAM_INVALID);
  const char* text = aclGetRecentErrMsg();
  EXPECT_STREQ(text, "aclnnMseLossBackward: reduction: expected 0 (none), 1 (mean) or 2 (sum), got 5");
  EXPECT_STREQ(aclGetRecentErrMsg(), "");
}

}  // namespace
