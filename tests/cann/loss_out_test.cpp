// aclnnMseLossOut compared with the exact reference, one column at a time: dtypes, reductions, layouts, empty
// shapes.
#include "tests/cann/operand.h"
#include "tests/support/exact.h"

namespace {

using cann::convert;
using cann::core;
using cann::Dims;
using cann::kTypes;
using cann::Operand;
using cann::View;
using mseloss::ConstTensor;
using mseloss::DType;
using mseloss::Reduction;

class LossOut : public cann::OperatorTest {
 protected:
  // The loss of each column, rounded to the inputs' promoted dtype, then converted to out's.
  static std::vector<uint64_t> expected(const ConstTensor& x, const ConstTensor& y, Reduction reduction,
                                        DType out) {
    const Dims all = oracle::broadcast({x.shape, y.shape});
    const DType inputs = oracle::promoted_dtype(x.dtype, y.dtype);
    const int64_t rows = all.empty() ? 1 : all[0];
    const int64_t columns = oracle::count_of(Dims(all.empty() ? all.end() : all.begin() + 1, all.end()));
    const auto differences = oracle::differences(x, y);
    std::vector<uint64_t> result;
    for (int64_t column = 0; column < columns; ++column) {
      exact::Sum sum;
      for (int64_t row = 0; row < rows; ++row) sum.add(differences[row * columns + column]);
      result.push_back(convert(inputs, sum.rounded(reduction, inputs), out));
    }
    return result;
  }

  void check(const Operand& x, const Operand& y, Operand& out) {
    for (const auto reduction : {Reduction::kMean, Reduction::kSum}) {
      const auto before = out.bytes;
      run_loss_out(x, y, static_cast<int64_t>(reduction), out);
      expect_bits(out, before, expected(x.core_view(), y.core_view(), reduction, core(out.dtype)));
    }
  }
};

TEST_F(LossOut, EveryMixOfDtypes_IsTheExactBits) {
  for (const aclDataType dtype : kTypes) {
    for (const aclDataType target_dtype : kTypes) {
      for (const aclDataType out_dtype : kTypes) {
        for (const Dims& shape :
             {Dims{4, 3}, Dims{7, 2, 5}, Dims{1, 6}, Dims{6, 1}, Dims{3, 1, 2, 1, 2, 1, 2, 2}}) {
          SCOPED_TRACE(testing::Message() << dtype << ", " << target_dtype << " to " << out_dtype);
          const Operand x(random, shape, dtype), y(random, shape, target_dtype);
          Operand out(random, Dims(shape.begin() + 1, shape.end()), out_dtype);
          check(x, y, out);
        }
      }
    }
  }
}

TEST_F(LossOut, MoreColumnsThanABlockAndManyRows_AreTheExactBits) {
  for (const aclDataType dtype : kTypes) {
    const Operand x(random, {300, 2, 300}, dtype), y(random, {2, 300}, dtype);
    Operand out(random, {2, 300}, ACL_FLOAT);
    check(x, y, out);
  }
}

TEST_F(LossOut, OneDimensionOrNone_IsTheWholeLoss) {
  for (const aclDataType dtype : kTypes) {
    for (const aclDataType out_dtype : kTypes) {
      for (const Dims& shape : {Dims{}, Dims{1}, Dims{1000}}) {
        const Operand x(random, shape, dtype), y(random, {}, dtype);
        Operand out(random, {}, out_dtype), whole(random, {}, out_dtype);
        check(x, y, out);
        for (const int64_t reduction : {1, 2}) {
          run_loss_out(x, y, reduction, out);
          run_loss(x, y, reduction, whole);
          EXPECT_EQ(out.bytes, whole.bytes);
        }
      }
    }
  }
}

TEST_F(LossOut, OperandsThatBroadcast_ShareRowsAndColumns) {
  const Operand scalar(random, {}, ACL_FLOAT), row(random, {5}, ACL_FLOAT), column(random, {4, 1}, ACL_FLOAT);
  const Operand full(random, {4, 5}, ACL_FLOAT), first(random, {1, 5}, ACL_FLOAT);
  const Operand* const choices[] = {&scalar, &row, &column, &full, &first};
  for (const Operand* x : choices) {
    for (const Operand* y : choices) {
      const Dims all = oracle::broadcast({x->shape, y->shape});
      Operand out(random, Dims(all.empty() ? all.end() : all.begin() + 1, all.end()), ACL_FLOAT);
      check(*x, *y, out);
    }
  }
}

TEST_F(LossOut, Views_AreReadAndWrittenInPlace) {
  for (const aclDataType dtype : kTypes) {
    const Operand x(random, {6, 4, 3}, dtype, {.strides = {1, 18, 6}, .storage = {72}});  // transposed
    const Operand y(random, {4, 3}, dtype, {.strides = {10, -2}, .offset = 7, .storage = {64}});
    Operand out(random, {4, 3}, dtype, {.strides = {2, -9}, .offset = 25, .storage = {80}});
    check(x, y, out);
  }
}

TEST_F(LossOut, WithoutReduction_IsTheElementwiseLoss) {
  for (const aclDataType dtype : kTypes) {
    for (const aclDataType out_dtype : kTypes) {
      const Operand x(random, {5, 1}, dtype), y(random, {1, 7}, dtype);
      Operand out(random, {5, 7}, out_dtype), loss(random, {5, 7}, out_dtype);
      run_loss_out(x, y, 0, out);
      run_loss(x, y, 0, loss);
      EXPECT_EQ(out.bytes, loss.bytes);
    }
  }
}

// 2^k + 2^(k-24) at the middle between two float32 values: only the exact sum can round it.
TEST_F(LossOut, ExactTies_RoundToEven) {
  Operand x(random, {3, 2}, ACL_FLOAT), y(random, {1}, ACL_FLOAT), out(random, {2}, ACL_FLOAT);
  const float rows[3][2] = {{4096, 4096}, {1, 1}, {0, 0x1p-20f}}, zero = 0;
  std::memcpy(x.bytes.data(), rows, sizeof(rows));
  std::memcpy(y.bytes.data(), &zero, sizeof(zero));
  run_loss_out(x, y, 2, out);
  expect_bits(out, out.bytes,
              {oracle::encode(DType::kFloat32, 0x1p24), oracle::encode(DType::kFloat32, 0x1p24 + 2)});
}

TEST_F(LossOut, NanAndInfinity_StayInTheirColumns) {
  Operand x(random, {3, 4}, ACL_FLOAT), y(random, {}, ACL_FLOAT), out(random, {4}, ACL_FLOAT);
  const float infinity = INFINITY, nan = NAN, largest = 0x1.fffffep127f;
  const float rows[3][4] = {{1, infinity, nan, largest}, {2, 3, infinity, 1}, {2, 3, 1, 1}}, zero = 0;
  std::memcpy(x.bytes.data(), rows, sizeof(rows));
  std::memcpy(y.bytes.data(), &zero, sizeof(zero));
  check(x, y, out);
  EXPECT_EQ(oracle::decode(DType::kFloat32, oracle::load(DType::kFloat32, out.bytes.data())), 9);
}

TEST_F(LossOut, WithoutRows_IsZeroForSumAndNanForMean) {
  const Operand x(random, {0, 3}, ACL_FLOAT), y(random, {3}, ACL_FLOAT), nothing(random, {2, 0}, ACL_FLOAT);
  Operand out(random, {3}, ACL_FLOAT), none(random, {0, 3}, ACL_FLOAT), no_columns(random, {0}, ACL_FLOAT);
  check(x, y, out);
  run_loss_out(x, y, 0, none);
  for (int64_t reduction = 1; reduction <= 2; ++reduction)
    run_loss_out(nothing, nothing, reduction, no_columns);
  cann::Tensor nowhere(nullptr, {0, 3});
  uint64_t workspace = 1;
  aclOpExecutor* executor = nullptr;
  ASSERT_EQ(aclnnMseLossOutGetWorkspaceSize(nowhere, *y.tensor, 2, *out.tensor, &workspace, &executor),
            ACLNN_SUCCESS);
  finish(aclnnMseLossOut, workspace, executor);
  EXPECT_EQ(oracle::load(DType::kFloat32, out.bytes.data()), 0u);
}

TEST_F(LossOut, RandomShapesAndLayouts_AreTheExactBits) {
  for (int round = 0; round < 200; ++round) {
    const Dims all{random.range(1, 40), random.range(1, 4), random.range(1, 30)};
    const aclDataType dtype = random.pick(kTypes), out_dtype = random.pick(kTypes);
    const Operand x(random, all, dtype);
    const Operand y(random, random.chance(50) ? all : Dims{all[1], 1}, random.pick(kTypes));
    Operand out(random, {all[1], all[2]}, out_dtype);
    check(x, y, out);
  }
}

}  // namespace
