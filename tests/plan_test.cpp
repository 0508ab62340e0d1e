// The invariants that the backends rely on, and plans for shapes that are too large to run.
#include "plan/plan.h"

#include <set>

#include "tests/support/cases.h"

namespace {

using namespace cases;
using mseloss::Plan;

Plan grad_plan(const ConstTensor& g, const ConstTensor& x, const ConstTensor& y, Reduction reduction,
               const Tensor& out) {
  Plan plan;
  const Status status = mseloss::make_grad_plan(g, x, y, reduction, out, &plan);
  EXPECT_TRUE(status.ok()) << status.message();
  return plan;
}

bool present(const Plan& plan, int operand) { return plan.operands >> operand & 1; }

void expect_invariants(const Plan& plan) {
  EXPECT_EQ(plan.layout == mseloss::Layout::kEmpty, plan.numel == 0);
  if (plan.numel == 0) return;
  ASSERT_GE(plan.rank, 0);
  ASSERT_LE(plan.rank, 8);
  int64_t product = 1;
  for (int d = 0; d < plan.rank; ++d) {
    EXPECT_GE(plan.extent[d], 2);
    EXPECT_GE(plan.stride[mseloss::kOut][d], 0);
    if (d > 0) {
      // The innermost dimension is the one in which most operands are contiguous; the outer ones are in the
      // order of the output's strides.
      if (d + 1 < plan.rank) {
        EXPECT_LE(plan.stride[mseloss::kOut][d], plan.stride[mseloss::kOut][d - 1]);
      }
      bool mergeable = true;
      for (int o = 0; o < mseloss::kOperands; ++o)
        mergeable =
            mergeable && (!present(plan, o) || plan.stride[o][d - 1] == plan.stride[o][d] * plan.extent[d]);
      EXPECT_FALSE(mergeable) << "dimensions " << d - 1 << " and " << d << " can be merged";
    }
    product *= plan.extent[d];
  }
  EXPECT_EQ(product, plan.numel);
  for (int o = 0; o < mseloss::kOperands && plan.layout != mseloss::Layout::kGeneral; ++o) {
    if (!present(plan, o) || plan.rank == 0) continue;
    const int64_t inner = plan.stride[o][plan.rank - 1];
    EXPECT_TRUE(inner == 0 || inner == 1) << "operand " << o << " strides " << inner;
  }
  EXPECT_TRUE(plan.layout != mseloss::Layout::kDense || plan.rank <= 1);
}

// The element offsets that a loop over the plan accesses: one vector per index, with one offset per operand.
std::multiset<std::vector<int64_t>> accessed_offsets(const Plan& plan) {
  std::multiset<std::vector<int64_t>> all;
  for (int64_t i = 0; i < plan.numel; ++i) {
    std::vector<int64_t> at;
    for (const int o : {mseloss::kGradOutput, mseloss::kInput, mseloss::kTarget, mseloss::kOut}) {
      int64_t remaining = i, offset = plan.offset[o];
      for (int d = plan.rank; d-- > 0; remaining /= plan.extent[d])
        offset += remaining % plan.extent[d] * plan.stride[o][d];
      at.push_back(offset);
    }
    all.insert(at);
  }
  return all;
}

TEST(Plan, RandomOperands_KeepTheInvariantsAndVisitTheSameElements) {
  for_each_case(6000, [](Random& random) {
    const DType dtype = random.pick(kDTypes);
    const Shape all = random_shape(random, 300);
    Operand g(random, dtype, narrowed(random, all), Layout::kAny), x(random, dtype, all, Layout::kAny);
    Operand y(random, dtype, narrowed(random, all), Layout::kAny);
    const Shape shape = oracle::broadcast({g.shape(), x.shape(), y.shape()});
    Operand out(random, dtype, shape, Layout::kAny, true);
    const Reduction reduction = random.pick(kReductions);
    const Plan plan = grad_plan(g.view(), x.view(), y.view(), reduction, out.tensor());
    expect_invariants(plan);
    ASSERT_EQ(plan.numel, out.count());
    std::multiset<std::vector<int64_t>> expected;
    for (int64_t i = 0; i < out.count(); ++i) {
      std::vector<int64_t> at;
      for (Operand* operand : {&g, &x, &y, &out}) {
        const auto view = operand->view();
        at.push_back(oracle::offset_of(view.shape, view.strides, shape, i));
      }
      expected.insert(at);
    }
    EXPECT_EQ(accessed_offsets(plan), expected);
  });
}

TEST(Plan, ValueOfAPlan_IsTriviallyCopyable) { EXPECT_TRUE(std::is_trivially_copyable_v<Plan>); }

struct Layouts {
  Shape shape, g, x, y, out;  // strides
  mseloss::Layout expected;
  int rank;
};

TEST(Plan, LayoutClass_IsTheFastestThatFits) {
  using mseloss::Layout;
  const Layouts all[] = {{{}, {}, {}, {}, {}, Layout::kDense, 0},
                         {{1, 1, 1}, {5, 6, 7}, {0, 0, 0}, {-1, 9, 2}, {0, 0, 0}, Layout::kDense, 0},
                         {{4, 5, 6}, {30, 6, 1}, {30, 6, 1}, {30, 6, 1}, {30, 6, 1}, Layout::kDense, 1},
                         {{4, 5, 6}, {0, 0, 0}, {30, 6, 1}, {30, 6, 1}, {30, 6, 1}, Layout::kDense, 1},
                         // All operands transposed, or all reversed: dense in another order.
                         {{6, 5, 4}, {1, 6, 30}, {1, 6, 30}, {1, 6, 30}, {1, 6, 30}, Layout::kDense, 1},
                         {{4, 30}, {-30, -1}, {-30, -1}, {0, 0}, {-30, -1}, Layout::kDense, 1},
                         {{50, 1000}, {0, 0}, {1000, 1}, {0, 1}, {1000, 1}, Layout::kRows, 2},
                         {{50, 1000}, {0, 0}, {1024, 1}, {1000, 1}, {1000, 1}, Layout::kRows, 2},
                         {{50, 1000}, {0, 0}, {1000, 1}, {1, 0}, {1000, 1}, Layout::kRows, 2},
                         {{500, 500}, {0, 0}, {500, 1}, {1, 500}, {500, 1}, Layout::kGeneral, 2},
                         {{1000}, {0}, {2}, {1}, {1}, Layout::kGeneral, 1},
                         {{1000}, {0}, {1}, {1}, {2}, Layout::kGeneral, 1},
                         {{3, 0, 2}, {0, 0, 0}, {2, 2, 1}, {2, 2, 1}, {0, 0, 0}, Layout::kEmpty, -1}};
  for (const Layouts& c : all) {
    const Plan plan =
        grad_plan({nullptr, DType::kFloat32, c.shape, c.g}, {nullptr, DType::kFloat32, c.shape, c.x},
                  {nullptr, DType::kFloat32, c.shape, c.y}, Reduction::kSum,
                  {nullptr, DType::kFloat32, c.shape, c.out});
    const auto at = &c - all;
    EXPECT_EQ(plan.layout, c.expected) << at;
    EXPECT_TRUE(c.rank < 0 || plan.rank == c.rank) << at;
    expect_invariants(plan);
  }
}

// The kernels read a mask as it is; other weights of another dtype than the operands' are converted.
TEST(Plan, LayoutClassWithAMask_IsThatOfItsStrides) {
  using mseloss::Layout;
  const Shape shape{50, 1000}, slices{50, 1};
  const mseloss::ConstTensor one(nullptr, DType::kFloat32), full(nullptr, DType::kFloat32, shape);
  const mseloss::Tensor out(nullptr, DType::kFloat32, shape);
  const auto plan_with = [&](DType dtype, const Shape& strides, const Shape& loss_shape) {
    const mseloss::ConstTensor weight(nullptr, dtype, shape, strides);
    Plan plan;
    EXPECT_TRUE(mseloss::make_loss_and_grad_plan(full, full, Reduction::kMean, one,
                                                 {nullptr, DType::kFloat32, loss_shape}, out, &plan,
                                                 mseloss::kNames, &weight)
                    .ok());
    return plan;
  };
  EXPECT_EQ(plan_with(DType::kBool, {1000, 1}, {}).layout, Layout::kDense);
  EXPECT_EQ(plan_with(DType::kBool, {0, 0}, {}).layout, Layout::kDense);
  EXPECT_EQ(plan_with(DType::kBool, {1, 0}, {}).layout, Layout::kRows);
  EXPECT_EQ(plan_with(DType::kBool, {1001, 1}, {}).layout, Layout::kRows);
  EXPECT_EQ(plan_with(DType::kBool, {1, 50}, {}).layout, Layout::kGeneral);
  EXPECT_EQ(plan_with(DType::kBool, {-1000, -1}, {}).layout, Layout::kGeneral);
  EXPECT_EQ(plan_with(DType::kFloat16, {1000, 1}, {}).layout, Layout::kGeneral);
  EXPECT_EQ(plan_with(DType::kBool, {1000, 1}, slices).layout, Layout::kGeneral);
}

TEST(Plan, Scale_IsTwoOrTwoOverTheCountOfInputBeforeBroadcasting) {
  const Shape row{1, 7}, full{9, 7};
  for (DType dtype : kDTypes) {
    const bool wide = dtype == DType::kFloat64;
    const auto scale = [&](Reduction reduction, const Shape& input) {
      return grad_plan({nullptr, dtype}, {nullptr, dtype, input}, {nullptr, dtype, full}, reduction,
                       {nullptr, dtype, full})
          .scale;
    };
    EXPECT_EQ(scale(Reduction::kNone, full), 2);
    EXPECT_EQ(scale(Reduction::kSum, row), 2);
    EXPECT_EQ(scale(Reduction::kMean, row), wide ? 2.0 / 7 : double{2.0f / 7});
    EXPECT_EQ(scale(Reduction::kMean, full), wide ? 2.0 / 63 : double{2.0f / 63});
    EXPECT_EQ(scale(Reduction::kMean, {}), 2);
  }
}

// 846731599 is the first count at which float(2.0 / n) is not 2 / n rounded to float.
TEST(Plan, ScaleOfCountsWhereTwoRoundingsGoWrong_IsRoundedOnce) {
  const Shape shape{846731599};
  const Plan plan =
      grad_plan({nullptr, DType::kFloat32}, {nullptr, DType::kFloat32, shape},
                {nullptr, DType::kFloat32, shape}, Reduction::kMean, {nullptr, DType::kFloat32, shape});
  EXPECT_EQ(plan.scale, oracle::two_over(846731599, 24));
  EXPECT_NE(plan.scale, double{static_cast<float>(2.0 / 846731599)});
  EXPECT_EQ(oracle::two_over(846731598, 24), double{static_cast<float>(2.0 / 846731598)});
}

TEST(Plan, RandomCounts_ScaleAsTheIntegerQuotientRounds) {
  for_each_case(6000, [](Random& random) {
    const int64_t n = static_cast<int64_t>(random.bits() >> random.range(2, 63)) + 1;
    const DType dtype = random.pick(kDTypes);
    const Shape strides{0};
    Plan plan;
    const int64_t small = std::min<int64_t>(n, int64_t{1} << 59);
    const Shape out{small};
    const Status status = mseloss::make_grad_plan({nullptr, dtype}, {nullptr, dtype, out, strides},
                                                  {nullptr, dtype, out, strides}, Reduction::kMean,
                                                  {nullptr, dtype, out}, &plan);
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_EQ(plan.scale, oracle::two_over(small, dtype == DType::kFloat64 ? 53 : 24)) << small;
  });
}

TEST(Plan, CountsBeyond32Bits_AreKept) {
  for (const int64_t n :
       {(int64_t{1} << 31) + 1, (int64_t{1} << 32) + 3, int64_t{1} << 40, int64_t{1} << 58}) {
    const Shape shape{2, n}, zero{0, 0}, backwards{-n, -1};
    const Plan plan = grad_plan({nullptr, DType::kFloat16}, {nullptr, DType::kFloat16, shape, zero},
                                {nullptr, DType::kFloat16, shape, backwards}, Reduction::kMean,
                                {nullptr, DType::kFloat16, shape});
    EXPECT_EQ(plan.numel, 2 * n);
    EXPECT_EQ(plan.rank, 1);
    EXPECT_EQ(plan.extent[0], 2 * n);
    EXPECT_EQ(plan.stride[mseloss::kTarget][0], -1);
    EXPECT_EQ(plan.scale, oracle::two_over(2 * n, 24));
    expect_invariants(plan);
  }
}

TEST(Plan, CountsOfManyBigDimensions_AreKept) {
  const Shape input{1 << 20, 1, 1 << 20}, target{1, 1 << 20, 1}, all{1 << 20, 1 << 20, 1 << 20};
  const Plan plan =
      grad_plan({nullptr, DType::kFloat16}, {nullptr, DType::kFloat16, input},
                {nullptr, DType::kFloat16, target}, Reduction::kMean, {nullptr, DType::kFloat16, all});
  EXPECT_EQ(plan.numel, int64_t{1} << 60);
  EXPECT_EQ(plan.scale, 0x1p-39);  // 2 / 2^40: numel(input) before broadcasting
  EXPECT_EQ(plan.rank, 3);
  expect_invariants(plan);
}

TEST(Plan, LossAndGradScale_CountsTheBroadcastShape) {
  const Shape row{7}, full{9, 7};
  Plan plan;
  float loss;
  ASSERT_TRUE(mseloss::make_loss_and_grad_plan(
                  {nullptr, DType::kFloat32, row}, {nullptr, DType::kFloat32, full}, Reduction::kMean,
                  {nullptr, DType::kFloat32}, {&loss}, {nullptr, DType::kFloat32, full}, &plan)
                  .ok());
  EXPECT_EQ(plan.scale, double{2.0f / 63});
}

}  // namespace
