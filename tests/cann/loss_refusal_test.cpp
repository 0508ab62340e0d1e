// First phase of aclnnMseLoss: every error, its code and message.
#include "tests/cann/session.h"

namespace {

using cann::Dims;
using cann::expect_message;
using cann::Tensor;

class LossRefusal : public cann::Test {
 protected:
  float memory[64] = {};
  float more[64] = {};
  float result[64] = {};
  uint64_t workspace = 77;
  aclOpExecutor* executor = nullptr;

  void expect_refused(const aclTensor* x, const aclTensor* y, int64_t reduction, aclTensor* out,
                      aclnnStatus code, const char* parameter, const char* given) {
    EXPECT_EQ(aclnnMseLossGetWorkspaceSize(x, y, reduction, out, &workspace, &executor), code);
    expect_message("aclnnMseLoss", parameter, given);
    EXPECT_EQ(workspace, 77u);
    EXPECT_EQ(executor, nullptr);
  }
};

TEST_F(LossRefusal, NullArgument_Is161001AndNamed) {
  Tensor x(memory, {2}), out(result, {2});
  expect_refused(nullptr, x, 9, out, ACLNN_ERR_PARAM_NULLPTR, "self", "null");
  expect_refused(x, nullptr, 9, out, ACLNN_ERR_PARAM_NULLPTR, "target", "null");
  expect_refused(x, x, 9, nullptr, ACLNN_ERR_PARAM_NULLPTR, "out", "null");
  EXPECT_EQ(aclnnMseLossGetWorkspaceSize(x, x, 0, out, nullptr, &executor), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(aclnnMseLossGetWorkspaceSize(x, x, 0, out, &workspace, nullptr), ACLNN_ERR_PARAM_NULLPTR);
}

TEST_F(LossRefusal, DtypeOutsideTheThree_Is161002) {
  Tensor x(memory, {2}), wide(more, {2}, ACL_DOUBLE), out(result, {2});
  expect_refused(wide, x, 9, out, ACLNN_ERR_PARAM_INVALID, "self", "aclDataType 11");
  expect_refused(x, wide, 9, out, ACLNN_ERR_PARAM_INVALID, "target", "aclDataType 11");
  expect_refused(x, x, 9, wide, ACLNN_ERR_PARAM_INVALID, "out", "aclDataType 11");
}

TEST_F(LossRefusal, ReductionOutsideZeroToTwo_Is161002) {
  Tensor x(memory, {2}), out(result, {2, 7});
  expect_refused(x, x, 3, out, ACLNN_ERR_PARAM_INVALID, "reduction", "3");
  expect_refused(x, x, -1, out, ACLNN_ERR_PARAM_INVALID, "reduction", "-1");
}

TEST_F(LossRefusal, RankAndShape_Are161002) {
  Tensor x(memory, {2, 3}), y(more, {4}), deep(more, Dims(9, 1)), out(result, {2, 3}), scalar(result, {});
  expect_refused(x, deep, 1, scalar, ACLNN_ERR_PARAM_INVALID, "target", "9");
  expect_refused(x, y, 0, out, ACLNN_ERR_PARAM_INVALID, "target", "(4)");
  expect_refused(x, x, 0, scalar, ACLNN_ERR_PARAM_INVALID, "out", "()");
}

TEST_F(LossRefusal, OutOfMeanOrSumWithDimensions_Is161002) {
  Tensor x(memory, {2}), one(result, {1}), same(result, {2});
  for (const int64_t reduction : {1, 2}) {
    expect_refused(x, x, reduction, one, ACLNN_ERR_PARAM_INVALID, "out", "(1)");
    expect_refused(x, x, reduction, same, ACLNN_ERR_PARAM_INVALID, "out", "(2)");
  }
}

TEST_F(LossRefusal, FormatStorageAndOverlap_Are161002) {
  Tensor x(memory, {4}), blocked(more, {4}, ACL_FLOAT, {.format = ACL_FORMAT_NC1HWC0}), out(result, {4});
  Tensor leaving(more, {4}, ACL_FLOAT, {.offset = 1, .storage = {4}});
  Tensor inside_x(memory + 2, {}), shifted(memory + 1, {4}), folded(result, {4}, ACL_FLOAT, {.strides = {0}});
  expect_refused(x, blocked, 0, out, ACLNN_ERR_PARAM_INVALID, "target", "3");
  expect_refused(x, leaving, 0, out, ACLNN_ERR_PARAM_INVALID, "target", "leaves");
  expect_refused(x, x, 2, inside_x, ACLNN_ERR_PARAM_INVALID, "out", "self");
  expect_refused(x, x, 0, shifted, ACLNN_ERR_PARAM_INVALID, "out", "self");
  expect_refused(x, x, 0, folded, ACLNN_ERR_PARAM_INVALID, "out", "share");
}

}  // namespace
