// aclnnMseLossBackward and aclnnMseLoss compared with the oracle: dtypes, reductions, layouts, formats, empty
// shapes.
#include <memory>

#include "tests/cann/operand.h"
#include "tests/support/exact.h"

namespace {

using cann::convert;
using cann::core;
using cann::Dims;
using cann::kTypes;
using cann::Operand;
using mseloss::DType;
using mseloss::Reduction;

class Operators : public cann::OperatorTest {
 protected:
  void check_backward(const Operand& g, const Operand& x, const Operand& y, int64_t reduction, Operand& out) {
    const auto expected = oracle::grad(g.core_view(), x.core_view(), y.core_view(),
                                       static_cast<Reduction>(reduction), core(out.dtype));
    const auto before = out.bytes;
    run_backward(g, x, y, reduction, out);
    expect_bits(out, before, expected);
  }
};

TEST_F(Operators, BackwardOfEveryDtypeReductionAndOut_IsTheOraclesBits) {
  for (const aclDataType dtype : kTypes) {
    for (const aclDataType out_dtype : kTypes) {
      for (int64_t reduction = 0; reduction <= 2; ++reduction) {
        for (const Dims& shape : {Dims{}, Dims{1}, Dims{16}, Dims{3, 5, 7}, Dims{1, 2, 1, 2, 1, 2, 3, 2}}) {
          SCOPED_TRACE(testing::Message() << dtype << " to " << out_dtype << ", reduction " << reduction);
          const Operand g(random, shape, dtype), x(random, shape, dtype), y(random, shape, dtype);
          Operand out(random, shape, out_dtype);
          check_backward(g, x, y, reduction, out);
        }
      }
    }
  }
}

TEST_F(Operators, BackwardThatBroadcasts_DividesByTheCountOfSelf) {
  const Operand scalar(random, {}, ACL_FLOAT), row(random, {5}, ACL_FLOAT), column(random, {4, 1}, ACL_FLOAT);
  const Operand full(random, {4, 5}, ACL_FLOAT);
  const Operand* const choices[] = {&scalar, &row, &column, &full};
  for (const Operand* g : choices) {
    for (const Operand* x : choices) {
      for (const Operand* y : choices) {
        Operand out(random, oracle::broadcast({g->shape, x->shape, y->shape}), ACL_FLOAT);
        check_backward(*g, *x, *y, 1, out);
      }
    }
  }
}

TEST_F(Operators, BackwardOfViews_ReadsAndWritesOnlyThem) {
  for (const aclDataType dtype : kTypes) {
    const Operand g(random, {6, 4}, dtype, {.strides = {1, 6}, .storage = {4, 6}});              // transposed
    const Operand x(random, {6, 4}, dtype, {.strides = {10, 2}, .offset = 3, .storage = {64}});  // sliced
    const Operand y(random, {6, 4}, dtype, {.strides = {0, 1}, .storage = {4}});                 // expanded
    Operand out(random, {6, 4}, dtype, {.strides = {9, 2}, .offset = 5, .storage = {80}});
    for (int64_t reduction = 0; reduction <= 2; ++reduction) check_backward(g, x, y, reduction, out);
  }
}

TEST_F(Operators, BackwardOfMixedFormats_TakesThemAsLabels) {
  const aclFormat formats[] = {ACL_FORMAT_ND,    ACL_FORMAT_NCHW,  ACL_FORMAT_NHWC, ACL_FORMAT_HWCN,
                               ACL_FORMAT_NDHWC, ACL_FORMAT_NCDHW, ACL_FORMAT_NC,   ACL_FORMAT_NCL};
  const Operand g(random, {2, 3}, ACL_FLOAT), x(random, {2, 3}, ACL_FLOAT, {.format = ACL_FORMAT_NHWC});
  for (const aclFormat format : formats) {
    const Operand y(random, {2, 3}, ACL_FLOAT, {.format = format});
    Operand out(random, {2, 3}, ACL_FLOAT, {.format = ACL_FORMAT_NCHW});
    check_backward(g, x, y, 1, out);
  }
}

TEST_F(Operators, PrivateFormatWithTheViewsStorage_IsALabel) {
  const Operand x(random, {2, 3}, ACL_FLOAT, {.format = ACL_FORMAT_FRACTAL_NZ});
  const Operand y(random, {2, 3}, ACL_FLOAT, {.format = ACL_FORMAT_NC1HWC0});
  Operand out(random, {2, 3}, ACL_FLOAT, {.format = ACL_FORMAT_UNDEFINED});
  check_backward(x, x, y, 1, out);
}

TEST_F(Operators, BackwardInPlaceOnEachInput_IsTheSame) {
  for (const aclDataType dtype : kTypes) {
    for (int place = 0; place < 3; ++place) {
      Operand operands[] = {Operand(random, {33}, dtype), Operand(random, {33}, dtype),
                            Operand(random, {33}, dtype)};
      check_backward(operands[0], operands[1], operands[2], 1, operands[place]);
    }
  }
}

TEST_F(Operators, BackwardOfLargeTensors_RunsOnTheStreamsWorker) {
  const Operand g(random, {300, 400}, ACL_FLOAT), x(random, {300, 400}, ACL_FLOAT),
      y(random, {400}, ACL_FLOAT);
  Operand out(random, {300, 400}, ACL_FLOAT16);
  check_backward(g, x, y, 1, out);
}

TEST_F(Operators, BackwardOfNothing_SucceedsAndWritesNothing) {
  const Operand g(random, {3, 0}, ACL_FLOAT), x(random, {3, 1}, ACL_FLOAT), y(random, {}, ACL_FLOAT);
  Operand out(random, {3, 0}, ACL_FLOAT);
  for (int64_t reduction = 0; reduction <= 2; ++reduction) run_backward(g, x, y, reduction, out);
  cann::Tensor nowhere(nullptr, {0});
  uint64_t workspace = 1;
  aclOpExecutor* executor = nullptr;
  ASSERT_EQ(
      aclnnMseLossBackwardGetWorkspaceSize(nowhere, nowhere, nowhere, 1, nowhere, &workspace, &executor),
      ACLNN_SUCCESS);
  EXPECT_EQ(workspace, 0u);
  EXPECT_EQ(aclnnMseLossBackward(nullptr, 0, executor, stream), ACLNN_SUCCESS);
}

// As in CANN the loss is rounded to the inputs' promoted dtype before it is converted to out's.
TEST_F(Operators, LossWithoutReduction_IsTheOraclesBitsForEveryMixOfDtypes) {
  for (const aclDataType dtype : kTypes) {
    for (const aclDataType target_dtype : kTypes) {
      for (const aclDataType out_dtype : kTypes) {
        const Operand x(random, {5, 1}, dtype), y(random, {1, 7}, target_dtype);
        Operand out(random, {5, 7}, out_dtype);
        const auto before = out.bytes;
        run_loss(x, y, 0, out);
        const DType inputs = oracle::promoted_dtype(core(dtype), core(target_dtype));
        auto expected = oracle::loss(x.core_view(), y.core_view(), inputs);
        for (uint64_t& bits : expected) bits = convert(inputs, bits, core(out_dtype));
        expect_bits(out, before, expected);
      }
    }
  }
}

TEST_F(Operators, ReducedLoss_IsTheExactBitsForEveryMixOfDtypes) {
  for (const aclDataType dtype : kTypes) {
    for (const aclDataType target_dtype : kTypes) {
      for (const aclDataType out_dtype : kTypes) {
        for (const int64_t reduction : {1, 2}) {
          const Operand x(random, {5, 1}, dtype), y(random, {1, 7}, target_dtype);
          Operand out(random, {}, out_dtype);
          const DType inputs = oracle::promoted_dtype(core(dtype), core(target_dtype));
          const uint64_t expected =
              exact::loss(x.core_view(), y.core_view(), static_cast<Reduction>(reduction), inputs);
          run_loss(x, y, reduction, out);
          expect_bits(out, out.bytes, {convert(inputs, expected, core(out_dtype))});
        }
      }
    }
  }
}

// 300^2 is beyond float16. C++ and Python round once, into out; aclnn rounds to float16 first, as CANN does.
TEST_F(Operators, LossOfHalvesBeyondTheirRange_IsInfiniteAlsoInAWiderOut) {
  Operand x(random, {1}, ACL_FLOAT16), y(random, {1}, ACL_FLOAT16);
  oracle::store(DType::kFloat16, x.bytes.data(), oracle::encode(DType::kFloat16, 300));
  oracle::store(DType::kFloat16, y.bytes.data(), oracle::encode(DType::kFloat16, 0));
  for (int64_t reduction = 0; reduction <= 2; ++reduction) {
    Operand out(random, reduction == 0 ? Dims{1} : Dims{}, ACL_FLOAT);
    run_loss(x, y, reduction, out);
    expect_bits(out, out.bytes, {oracle::encode(DType::kFloat32, INFINITY)});
  }
  float once = 0;
  EXPECT_TRUE(mseloss::loss(x.core_view(), y.core_view(), Reduction::kSum, mseloss::Tensor(&once)).ok());
  EXPECT_EQ(once, 90000);
}

TEST_F(Operators, LossOfIntegers_MeanDividesByTheBroadcastCount) {
  Operand x(random, {4, 1}, ACL_FLOAT), y(random, {3}, ACL_FLOAT), sum(random, {}, ACL_FLOAT),
      mean(random, {}, ACL_FLOAT);
  float total = 0;
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 3; ++j) {
      const float xi = static_cast<float>(i), yj = static_cast<float>(5 * j);
      std::memcpy(&x.bytes[4 * i], &xi, 4);
      std::memcpy(&y.bytes[4 * j], &yj, 4);
      total += (xi - yj) * (xi - yj);
    }
  }
  run_loss(x, y, 2, sum);
  run_loss(x, y, 1, mean);
  expect_bits(sum, sum.bytes, {oracle::encode(DType::kFloat32, total)});
  expect_bits(mean, mean.bytes, {oracle::encode(DType::kFloat32, total / 12)});
}

TEST_F(Operators, LossOfNothing_IsZeroForSumAndNanForMean) {
  const Operand x(random, {0, 3}, ACL_FLOAT), y(random, {3}, ACL_FLOAT);
  Operand none(random, {0, 3}, ACL_FLOAT), sum(random, {}, ACL_FLOAT), mean(random, {}, ACL_BF16);
  run_loss(x, y, 0, none);
  run_loss(x, y, 2, sum);
  run_loss(x, y, 1, mean);
  EXPECT_EQ(oracle::load(DType::kFloat32, sum.bytes.data()), 0u);
  EXPECT_TRUE(
      std::isnan(oracle::decode(DType::kBFloat16, oracle::load(DType::kBFloat16, mean.bytes.data()))));
}

TEST_F(Operators, LossInPlace_IsTheSame) {
  Operand x(random, {50}, ACL_FLOAT), y(random, {50}, ACL_FLOAT);
  const auto expected = oracle::loss(x.core_view(), y.core_view(), DType::kFloat32);
  run_loss(x, y, 0, x);
  expect_bits(x, x.bytes, expected);
}

}  // namespace
