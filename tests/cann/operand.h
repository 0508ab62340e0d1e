// Operands of the aclnn operators with random values, and runs of the operators on them.
#pragma once

#include <cstring>
#include <memory>

#include "tests/cann/session.h"
#include "tests/support/cases.h"

namespace cann {

using mseloss::ConstTensor;
using mseloss::DType;
using mseloss::Reduction;

inline constexpr aclDataType kTypes[] = {ACL_FLOAT, ACL_FLOAT16, ACL_BF16};

inline DType core(aclDataType dtype) {
  return dtype == ACL_FLOAT ? DType::kFloat32 : dtype == ACL_FLOAT16 ? DType::kFloat16 : DType::kBFloat16;
}

// `bits` of one dtype, converted to another.
inline uint64_t convert(DType from, uint64_t bits, DType to) {
  return oracle::encode(to, oracle::decode(from, bits));
}

// A view and its storage, filled with random values of its dtype.
struct Operand {
  Operand(cases::Random& random, const Dims& view_shape, aclDataType type, View how = {})
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
    tensor = std::make_unique<Tensor>(bytes.data(), shape, dtype, view);
  }
  ConstTensor core_view() const {
    return ConstTensor(bytes.data() + view.offset * oracle::bytes_of(core(dtype)), core(dtype), shape,
                       view.strides);
  }
  Dims shape;
  aclDataType dtype;
  View view;
  std::vector<char> bytes;
  std::unique_ptr<Tensor> tensor;
};

class OperatorTest : public Test {
 protected:
  using LossPhaseOne = decltype(&aclnnMseLossGetWorkspaceSize);
  using PhaseTwo = decltype(&aclnnMseLoss);

  cases::Random random{20260101};

  void finish(PhaseTwo run, uint64_t workspace, aclOpExecutor* executor) {
    EXPECT_EQ(workspace, 0u);
    ASSERT_EQ(run(nullptr, 0, executor, stream), ACLNN_SUCCESS) << aclGetRecentErrMsg();
    ASSERT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS) << aclGetRecentErrMsg();
  }
  void run_backward(const Operand& g, const Operand& x, const Operand& y, int64_t reduction, Operand& out) {
    uint64_t workspace = 1;
    aclOpExecutor* executor = nullptr;
    ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(*g.tensor, *x.tensor, *y.tensor, reduction, *out.tensor,
                                                   &workspace, &executor),
              ACLNN_SUCCESS)
        << aclGetRecentErrMsg();
    finish(aclnnMseLossBackward, workspace, executor);
  }
  void run_loss(LossPhaseOne prepare, PhaseTwo run, const Operand& x, const Operand& y, int64_t reduction,
                Operand& out) {
    uint64_t workspace = 1;
    aclOpExecutor* executor = nullptr;
    ASSERT_EQ(prepare(*x.tensor, *y.tensor, reduction, *out.tensor, &workspace, &executor), ACLNN_SUCCESS)
        << aclGetRecentErrMsg();
    finish(run, workspace, executor);
  }
  void run_loss(const Operand& x, const Operand& y, int64_t reduction, Operand& out) {
    run_loss(aclnnMseLossGetWorkspaceSize, aclnnMseLoss, x, y, reduction, out);
  }
  void run_loss_out(const Operand& x, const Operand& y, int64_t reduction, Operand& out) {
    run_loss(aclnnMseLossOutGetWorkspaceSize, aclnnMseLossOut, x, y, reduction, out);
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
};

}  // namespace cann
