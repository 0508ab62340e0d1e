// aclnnMseLossBackward and aclnnMseLoss compared with the oracle: dtypes, reductions, layouts, formats, empty
// shapes.
#include <cstring>
#include <memory>

#include "tests/cann/session.h"
#include "tests/support/cases.h"

namespace {

using cann::Dims;
using mseloss::ConstTensor;
using mseloss::DType;
using mseloss::Reduction;

constexpr aclDataType kTypes[] = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16};

DType core(aclDataType dtype) {
  return dtype == ACL_FLOAT ? DType::kFloat32 : dtype == ACL_FLOAT16 ? DType::kFloat16 : DType::kBFloat16;
}

// A view and its storage, filled with random values of its dtype.
struct Operand {
  Operand(cases::Random& random, const Dims& view_shape, aclDataType type, cann::View how = {})
      : shape(view_shape), dtype(type), view(std::move(how)) {
    if (view.storage == Dims{-1}) view.storage = shape;
    if (view.strides.empty()) {
      view.strides.assign(shape.size(), 1);
      for (size_t i = shape.size(); i-- > 1;) view.strides[i - 1] = view.strides[i] * shape[i];
    }
    const int size = oracle::bytes_of(core(dtype));
    bytes.resize(static_cast<size_t>(oracle::count_of(view.storage) * size));
    for (size_t i = 0; i < bytes.size(); i += size) {
      oracle::store(core(dtype), &bytes[i], oracle::encode(core(dtype), 8 * random.unit() - 4));
    }
    tensor = std::make_unique<cann::Tensor>(bytes.data(), shape, dtype, view);
  }
  ConstTensor core_view() const {
    return ConstTensor(bytes.data() + view.offset * oracle::bytes_of(core(dtype)), core(dtype), shape,
                       view.strides);
  }
  Dims shape;
  aclDataType dtype;
  cann::View view;
  std::vector<char> bytes;
  std::unique_ptr<cann::Tensor> tensor;
};

class Operators : public cann::Test {
 protected:
  cases::Random random{20260101};

  void run_backward(const Operand& g, const Operand& x, const Operand& y, int64_t reduction, Operand& out) {
    uint64_t workspace = 1;
    aclOpExecutor* executor = nullptr;
    ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(*g.tensor, *x.tensor, *y.tensor, reduction, *out.tensor,
                                                   &workspace, &executor),
              ACLNN_SUCCESS)
        << aclGetRecentErrMsg();
    EXPECT_EQ(workspace, 0u);
    ASSERT_EQ(aclnnMseLossBackward(nullptr, 0, executor, stream), ACLNN_SUCCESS) << aclGetRecentErrMsg();
    ASSERT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS) << aclGetRecentErrMsg();
  }
  void run_loss(const Operand& x, const Operand& y, int64_t reduction, Operand& out) {
    uint64_t workspace = 1;
    aclOpExecutor* executor = nullptr;
    ASSERT_EQ(
        aclnnMseLossGetWorkspaceSize(*x.tensor, *y.tensor, reduction, *out.tensor, &workspace, &executor),
        ACLNN_SUCCESS)
        << aclGetRecentErrMsg();
    EXPECT_EQ(workspace, 0u);
    ASSERT_EQ(aclnnMseLoss(nullptr, 0, executor, stream), ACLNN_SUCCESS) << aclGetRecentErrMsg();
    ASSERT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS) << aclGetRecentErrMsg();
  }
  // Checks that the view's elements equal `expected` and all other bytes of the storage are unchanged.
  void expect_bits(const Operand& out, const std::vector<char>& before,
                   const std::vector<uint64_t>& expected) {
    std::vector<char> image = before;
    const int size = oracle::bytes_of(core(out.dtype));
    for (size_t i = 0; i < expected.size(); ++i) {
      const int64_t at = out.view.offset +
                         oracle::offset_of(out.shape, out.view.strides, out.shape, static_cast<int64_t>(i));
      const uint64_t actual = oracle::load(core(out.dtype), &out.bytes[at * size]);
      ASSERT_TRUE(oracle::same(core(out.dtype), actual, expected[i])) << "element " << i;
      oracle::store(core(out.dtype), &image[at * size], actual);
    }
    EXPECT_EQ(image, out.bytes) << "bytes outside the view";
  }
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

TEST_F(Operators, LossWithoutReduction_IsTheOraclesBitsForEveryMixOfDtypes) {
  for (const aclDataType dtype : kTypes) {
    for (const aclDataType target_dtype : kTypes) {
      for (const aclDataType out_dtype : kTypes) {
        const Operand x(random, {5, 1}, dtype), y(random, {1, 7}, target_dtype);
        Operand out(random, {5, 7}, out_dtype);
        const auto before = out.bytes;
        run_loss(x, y, 0, out);
        expect_bits(out, before, oracle::loss(x.core_view(), y.core_view(), core(out_dtype)));
      }
    }
  }
}

TEST_F(Operators, LossOfIntegers_IsExactAndMeanDividesByTheBroadcastCount) {
  for (const aclDataType dtype : kTypes) {
    Operand x(random, {4, 1}, dtype), y(random, {3}, dtype), sum(random, {}, ACL_FLOAT),
        mean(random, {}, ACL_FLOAT);
    double exact = 0;
    const int size = oracle::bytes_of(core(dtype));
    for (int i = 0; i < 4; ++i)
      oracle::store(core(dtype), &x.bytes[i * size], oracle::encode(core(dtype), i));
    for (int j = 0; j < 3; ++j)
      oracle::store(core(dtype), &y.bytes[j * size], oracle::encode(core(dtype), 5 * j));
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 3; ++j) exact += (i - 5 * j) * (i - 5 * j);
    }
    run_loss(x, y, 2, sum);
    run_loss(x, y, 1, mean);
    expect_bits(sum, sum.bytes, {oracle::encode(DType::kFloat32, exact)});
    expect_bits(mean, mean.bytes, {oracle::encode(DType::kFloat32, exact / 12)});
  }
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
