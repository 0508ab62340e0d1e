// First phase of aclnnMseLoss and aclnnMseLossOut: every error, its code and message.
#include "tests/cann/session.h"

namespace {

using cann::Dims;
using cann::expect_message;
using cann::Tensor;

struct Operator {
  const char* name;
  decltype(&aclnnMseLossGetWorkspaceSize) prepare;
};
void PrintTo(const Operator& op, std::ostream* stream) { *stream << op.name; }
constexpr Operator kMseLoss{"aclnnMseLoss", aclnnMseLossGetWorkspaceSize};
constexpr Operator kMseLossOut{"aclnnMseLossOut", aclnnMseLossOutGetWorkspaceSize};

class LossErrors : public cann::Test, public testing::WithParamInterface<Operator> {
 protected:
  float memory[64] = {};
  float more[64] = {};
  float result[64] = {};
  uint64_t workspace = 77;
  aclOpExecutor* executor = nullptr;

  void expect_refused(const aclTensor* x, const aclTensor* y, int64_t reduction, aclTensor* out,
                      aclnnStatus code, const char* parameter, const char* given) {
    EXPECT_EQ(GetParam().prepare(x, y, reduction, out, &workspace, &executor), code);
    expect_message(std::string(GetParam().name) + ": ", parameter, given);
    EXPECT_EQ(workspace, 77u);
    EXPECT_EQ(executor, nullptr);
  }
};

INSTANTIATE_TEST_SUITE_P(Losses, LossErrors, testing::Values(kMseLoss, kMseLossOut),
                         [](const auto& info) { return info.param.name; });

TEST_P(LossErrors, NullArgument_Is161001AndNamed) {
  Tensor x(memory, {2}), out(result, {2});
  expect_refused(nullptr, x, 9, out, ACLNN_ERR_PARAM_NULLPTR, "self", "null");
  expect_refused(x, nullptr, 9, out, ACLNN_ERR_PARAM_NULLPTR, "target", "null");
  expect_refused(x, x, 9, nullptr, ACLNN_ERR_PARAM_NULLPTR, "out", "null");
  EXPECT_EQ(GetParam().prepare(x, x, 0, out, nullptr, &executor), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(GetParam().prepare(x, x, 0, out, &workspace, nullptr), ACLNN_ERR_PARAM_NULLPTR);
}

TEST_P(LossErrors, DtypeOutsideTheThree_Is161002) {
  Tensor x(memory, {2}), wide(more, {2}, ACL_DOUBLE), out(result, {2});
  expect_refused(wide, x, 9, out, ACLNN_ERR_PARAM_INVALID, "self", "aclDataType 11");
  expect_refused(x, wide, 9, out, ACLNN_ERR_PARAM_INVALID, "target", "aclDataType 11");
  expect_refused(x, x, 9, wide, ACLNN_ERR_PARAM_INVALID, "out", "aclDataType 11");
}

TEST_P(LossErrors, ReductionOutsideZeroToTwo_Is161002) {
  Tensor x(memory, {2}), out(result, {2, 7});
  expect_refused(x, x, 3, out, ACLNN_ERR_PARAM_INVALID, "reduction", "3");
  expect_refused(x, x, -1, out, ACLNN_ERR_PARAM_INVALID, "reduction", "-1");
}

TEST_P(LossErrors, RankAndShape_Are161002) {
  Tensor x(memory, {2, 3}), y(more, {4}), deep(more, Dims(9, 1)), out(result, {2, 3}), scalar(result, {});
  expect_refused(x, deep, 1, scalar, ACLNN_ERR_PARAM_INVALID, "target", "9");
  expect_refused(x, y, 0, out, ACLNN_ERR_PARAM_INVALID, "target", "(4)");
  expect_refused(x, x, 0, scalar, ACLNN_ERR_PARAM_INVALID, "out", "()");
}

TEST_P(LossErrors, OutOfMeanOrSumWithDimensions_Is161002) {
  Tensor x(memory, {2}), one(result, {1}), same(result, {2});
  for (const int64_t reduction : {1, 2}) {
    expect_refused(x, x, reduction, one, ACLNN_ERR_PARAM_INVALID, "out", "(1)");
    expect_refused(x, x, reduction, same, ACLNN_ERR_PARAM_INVALID, "out", "(2)");
  }
}

TEST_P(LossErrors, FormatStorageAndOverlap_Are161002) {
  Tensor x(memory, {4}),
      blocked(more, {4}, ACL_FLOAT, {.storage = {1, 4, 1, 1, 16}, .format = ACL_FORMAT_NC1HWC0}),
      out(result, {4});
  Tensor leaving(more, {4}, ACL_FLOAT, {.offset = 1, .storage = {4}});
  Tensor inside_x(memory + 2, {}), shifted(memory + 1, {4}), folded(result, {4}, ACL_FLOAT, {.strides = {0}});
  expect_refused(x, blocked, 0, out, ACLNN_ERR_PARAM_INVALID, "target", "3");
  expect_refused(x, leaving, 0, out, ACLNN_ERR_PARAM_INVALID, "target", "exceeds");
  expect_refused(x, x, 2, inside_x, ACLNN_ERR_PARAM_INVALID, "out", "self");
  expect_refused(x, x, 0, shifted, ACLNN_ERR_PARAM_INVALID, "out", "self");
  expect_refused(x, x, 0, folded, ACLNN_ERR_PARAM_INVALID, "out", "overlap");
}

class LossOutErrors : public LossErrors {};
INSTANTIATE_TEST_SUITE_P(Losses, LossOutErrors, testing::Values(kMseLossOut),
                         [](const auto& info) { return info.param.name; });

TEST_P(LossOutErrors, OutOfAnotherShapeThanTheColumns_Is161002) {
  Tensor x(memory, {2, 3}), row(more, {3});
  for (const Dims& shape : {Dims{}, Dims{2}, Dims{2, 3}, Dims{1, 3}, Dims{4}}) {
    Tensor out(result, shape);
    for (const int64_t reduction : {1, 2}) {
      expect_refused(x, row, reduction, out, ACLNN_ERR_PARAM_INVALID, "out",
                     "(2, 3) without its first dimension");
    }
  }
  Tensor deep(result, Dims(9, 1));
  expect_refused(x, row, 1, deep, ACLNN_ERR_PARAM_INVALID, "out", "9");
}

TEST_P(LossOutErrors, OutInsideAnInputOrItself_Is161002) {
  Tensor x(memory, {2, 3}), y(more, {2, 3}), out(result, {3}), inside(memory + 2, {3}),
      after(memory + 6, {3});
  Tensor folded(result, {3}, ACL_FLOAT, {.strides = {0}});
  expect_refused(x, y, 2, inside, ACLNN_ERR_PARAM_INVALID, "out", "self");
  expect_refused(y, x, 2, inside, ACLNN_ERR_PARAM_INVALID, "out", "target");
  expect_refused(x, y, 2, folded, ACLNN_ERR_PARAM_INVALID, "out", "overlap");
  ASSERT_EQ(aclnnMseLossOutGetWorkspaceSize(x, y, 2, after, &workspace, &executor), ACLNN_SUCCESS);
  EXPECT_EQ(aclSetRawTensorAddr(after, memory), ACLNN_SUCCESS);
  EXPECT_EQ(aclnnMseLossOut(nullptr, 0, executor, stream), ACLNN_ERR_PARAM_INVALID);
  expect_message("aclnnMseLossOut", "out", "self");
  ASSERT_EQ(aclnnMseLossOutGetWorkspaceSize(x, y, 2, out, &workspace, &executor), ACLNN_SUCCESS);
  EXPECT_EQ(aclSetRawTensorAddr(y, nullptr), ACLNN_SUCCESS);
  EXPECT_EQ(aclnnMseLossOut(nullptr, 0, executor, stream), ACLNN_ERR_PARAM_NULLPTR);
  expect_message("aclnnMseLossOut", "target", "null");
}

}  // namespace
