// The stack that the calls of aclnn use of their caller's, against the limit that is documented for callers
// with small stacks.
#include "tests/support/stack.h"

#include <cstdio>

#include "tests/cann/operand.h"

namespace {

using cann::Operand;
using cann::Tensor;

// A thread's whole use of the three operators: each call runs inline (300 elements) or on the stream's
// worker.
void use_operators(const Operand& g, const Operand& x, const Operand& y, const Operand& out,
                   const Operand& loss, const Operand& columns) {
  ASSERT_EQ(aclrtSetDevice(0), ACL_SUCCESS);
  aclrtStream stream = nullptr;
  ASSERT_EQ(aclrtCreateStream(&stream), ACL_SUCCESS);
  uint64_t workspace = 0;
  aclOpExecutor* executor = nullptr;
  for (const int64_t reduction : {0, 1, 2}) {
    ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(*g.tensor, *x.tensor, *y.tensor, reduction, *out.tensor,
                                                   &workspace, &executor),
              ACLNN_SUCCESS);
    ASSERT_EQ(aclnnMseLossBackward(nullptr, 0, executor, stream), ACLNN_SUCCESS);
    const Operand& whole = reduction == 0 ? out : loss;
    ASSERT_EQ(
        aclnnMseLossGetWorkspaceSize(*x.tensor, *y.tensor, reduction, *whole.tensor, &workspace, &executor),
        ACLNN_SUCCESS);
    ASSERT_EQ(aclnnMseLoss(nullptr, 0, executor, stream), ACLNN_SUCCESS);
    const Operand& reduced = reduction == 0 ? out : columns;
    ASSERT_EQ(aclnnMseLossOutGetWorkspaceSize(*x.tensor, *y.tensor, reduction, *reduced.tensor, &workspace,
                                              &executor),
              ACLNN_SUCCESS);
    ASSERT_EQ(aclnnMseLossOut(nullptr, 0, executor, stream), ACLNN_SUCCESS);
  }
  ASSERT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
  ASSERT_EQ(aclrtDestroyStream(stream), ACL_SUCCESS);
  ASSERT_EQ(aclrtResetDevice(0), ACL_SUCCESS);
}

using AclnnStack = cann::Test;

TEST_F(AclnnStack, EveryOperator_UsesAtMostTheDocumentedBytes) {
  if (!stack::kMeasured) GTEST_SKIP() << "measured in optimised builds without sanitizers";
  cases::Random random(17);
  for (const aclDataType dtype : cann::kTypes) {
    for (const cann::Dims& shape : {cann::Dims{15, 20}, cann::Dims{300, 200}}) {
      const Operand g(random, shape, dtype), x(random, shape, dtype),
          y(random, shape, dtype, {.strides = {1, shape[0]}}), out(random, shape, dtype),
          loss(random, {}, dtype), columns(random, {shape[1]}, dtype);
      const size_t used = stack::used_by([&] { use_operators(g, x, y, out, loss, columns); });
      std::printf("[  STACK   ] %6zu bytes: %s, %lld elements\n", used, mseloss::name_of(cann::core(dtype)),
                  static_cast<long long>(shape[0] * shape[1]));
      EXPECT_LE(used, stack::kLimit);
    }
  }
}

}  // namespace
