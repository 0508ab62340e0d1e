// loss_and_grad against the exact loss and the oracle's gradient, and against separate calls of the two
// operators.
#include "tests/support/sums.h"

namespace {

using namespace cases;

// Compares one fused call with its definition; `out` may be one of the inputs.
void expect_right(Operand& x, Operand& y, Reduction reduction, Operand& g, Operand& loss, Operand& out,
                  const Options& options) {
  const int64_t count = oracle::count_of(oracle::broadcast({g.shape(), x.shape(), y.shape()}));
  const auto grads = oracle::grad(g.view(), x.view(), y.view(), reduction, out.dtype(), count);
  const oracle::Bits losses = reduction != Reduction::kNone
                                  ? oracle::Bits{exact::loss(x.view(), y.view(), reduction, loss.dtype())}
                                  : oracle::loss(x.view(), y.view(), loss.dtype());
  const auto loss_before = loss.storage(), out_before = out.storage();
  const Status status =
      mseloss::loss_and_grad(x.view(), y.view(), reduction, g.view(), loss.tensor(), out.tensor(), options);
  std::ostringstream what;
  what << mseloss::name_of(reduction) << ", target " << mseloss::target() << ", threads " << options.threads;
  print_to(what, "input", x.view());
  print_to(what, "target", y.view());
  print_to(what, "grad_output", g.view());
  print_to(what, "loss", loss.view());
  print_to(what, "grad_input", out.view());
  ASSERT_TRUE(status.ok()) << status.message() << what.str();
  ASSERT_TRUE(holds(loss, losses, loss_before)) << what.str();
  ASSERT_TRUE(holds(out, grads, out_before)) << what.str();
}

TEST(FusedProperty, RandomOperands_EqualTheExactLossAndTheOraclesGradient) {
  const auto names = targets();
  for_each_case(10000, [&](Random& random) {
    ASSERT_TRUE(mseloss::set_target(random.pick(names).c_str()).ok());
    const Reduction reduction = random.pick(kReductions);
    const DType dtype = random.pick(kDTypes), other = random.chance(75) ? dtype : random.pick(kDTypes);
    const Shape all = random_shape(random, random.chance(3) ? 20000 : 300);
    const bool in_place = random.chance(20);
    Operand x(random, dtype, narrowed(random, all), random.pick(kLayouts), in_place);
    Operand y(random, other, narrowed(random, all), random.pick(kLayouts));
    const Shape pair = oracle::broadcast({x.shape(), y.shape()});
    const Shape g_shape = reduction != Reduction::kNone ? Shape(static_cast<size_t>(random.range(0, 3)), 1)
                          : random.chance(50)           ? Shape{}
                                                        : pair;
    const DType promoted = oracle::promoted_dtype(dtype, other), narrow = random.pick(kDTypes);
    const bool widens = oracle::promoted_dtype(promoted, narrow) == promoted && random.chance(30);
    Operand g(random, widens ? narrow : promoted, g_shape, random.pick(kLayouts));
    const Values values = random.pick(kValues);
    for (Operand* operand : {&g, &x, &y}) operand->fill(random, values);
    const Shape none;
    Operand loss(random, random.pick(kDTypes), reduction == Reduction::kNone ? pair : none, Layout::kAny,
                 true);
    Operand out(random, random.chance(70) ? promoted : random.pick(kDTypes), pair, random.pick(kLayouts),
                true);
    const bool onto_x = in_place && reduction != Reduction::kNone && x.shape() == pair;
    expect_right(x, y, reduction, g, loss, onto_x ? x : out, random_options(random));
  });
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
}

class FusedLayouts : public testing::TestWithParam<std::tuple<DType, Reduction>> {};

INSTANTIATE_TEST_SUITE_P(Cpu, FusedLayouts,
                         testing::Combine(testing::ValuesIn(kDTypes), testing::ValuesIn(kReductions)),
                         [](const auto& instance) {
                           return std::string(mseloss::name_of(std::get<0>(instance.param))) + "_" +
                                  mseloss::name_of(std::get<1>(instance.param));
                         });

TEST_P(FusedLayouts, EveryTargetLayoutAndSize_EqualsTheTwoOperatorsCalledApart) {
  const DType dtype = std::get<0>(GetParam());
  const Reduction reduction = std::get<1>(GetParam());
  Random random(31);
  const Shape shapes[] = {{},      {1},     {7},      {64},         {129},     {1000},
                          {16385}, {70001}, {33, 65}, {5, 4, 3, 7}, {200, 300}};
  for_each_target([&] {
    for (const Shape& shape : shapes)
      for (Layout layout : kLayouts) {
        const int64_t count = oracle::count_of(shape);
        if (too_large(count) || (count > 20000 && layout != Layout::kDense && layout != Layout::kAny))
          continue;
        Operand g(random, dtype, reduction == Reduction::kNone ? shape : Shape{}, layout);
        Operand x(random, dtype, shape, layout), y(random, dtype, shape, random.pick(kLayouts));
        for (Operand* operand : {&g, &x, &y}) operand->fill(random, Values::kUnit);
        const Shape loss_shape = reduction == Reduction::kNone ? shape : Shape{};
        Operand loss(random, dtype, loss_shape, layout, true), out(random, dtype, shape, layout, true);
        Operand loss_alone(random, dtype, loss_shape, Layout::kDense, true);
        Operand out_alone(random, dtype, shape, Layout::kDense, true);
        const Options options = random_options(random);
        ASSERT_TRUE(mseloss::loss_and_grad(x.view(), y.view(), reduction, g.view(), loss.tensor(),
                                           out.tensor(), options)
                        .ok());
        ASSERT_TRUE(mseloss::loss(x.view(), y.view(), reduction, loss_alone.tensor()).ok());
        ASSERT_TRUE(mseloss::grad(g.view(), x.view(), y.view(), reduction, out_alone.tensor()).ok());
        for (int64_t i = 0; i < loss.count(); ++i) ASSERT_EQ(loss.bits(i), loss_alone.bits(i));
        for (int64_t i = 0; i < out.count(); ++i) ASSERT_EQ(out.bits(i), out_alone.bits(i));
      }
  });
}

TEST(Fused, SumsOnRoundingTies_AreRightInOneCall) {
  for_each_case(4800, [&](Random& random) {
    const DType from = random.pick(kDTypes), to = random.pick(kDTypes);
    const Reduction reduction = random.chance(50) ? Reduction::kMean : Reduction::kSum;
    const HardSum hard = hard_sum(random, from, to, reduction);
    if (hard.differences.empty()) return;
    auto [x, y] = pair_with(random, from, hard.differences, hard.zeros);
    Operand g(random, from, {}, Layout::kDense), loss(random, to, {}, Layout::kDense, true);
    g.fill(random, Values::kIntegers);
    // Often in place: a second sweep over the inputs would then read overwritten values.
    Operand fresh(random, from, x.shape(), Layout::kAny, true);
    const int where = static_cast<int>(random.range(0, 2));
    expect_right(x, y, reduction, g, loss, where == 0 ? x : where == 1 ? y : fresh, random_options(random));
  });
}

TEST(Fused, FiniteDifferencesOfTheLoss_MatchTheGradient) {
  for_each_case(200, [](Random& random) {
    const int64_t n = random.range(1, 12);
    Operand x(random, DType::kFloat64, {n}, Layout::kDense, true),
        y(random, DType::kFloat64, {n}, Layout::kDense);
    Operand out(random, DType::kFloat64, {n}, Layout::kDense, true);
    x.fill(random, Values::kUnit);
    y.fill(random, Values::kUnit);
    const double g = random.unit() + 0.5;
    for (Reduction reduction : {Reduction::kSum, Reduction::kMean}) {
      double loss = 0;
      ASSERT_TRUE(mseloss::loss_and_grad(x.view(), y.view(), reduction, &g, {&loss}, out.tensor()).ok());
      for (int64_t i = 0; i < n; ++i) {
        const double step = 1e-5, at = oracle::decode(DType::kFloat64, x.bits(i));
        double side[2];
        for (int s = 0; s < 2; ++s) {
          oracle::store(DType::kFloat64, x.at(i), std::bit_cast<uint64_t>(at + (s ? step : -step)));
          ASSERT_TRUE(mseloss::loss(x.view(), y.view(), reduction, {side + s}).ok());
        }
        oracle::store(DType::kFloat64, x.at(i), std::bit_cast<uint64_t>(at));
        const double expected = g * (side[1] - side[0]) / (2 * step);
        // The loss has errors of about 1e-15, which are divided by the step.
        ASSERT_NEAR(std::bit_cast<double>(out.bits(i)), expected, 1e-8);
      }
    }
  });
}

TEST(Fused, MeanOfBroadcastInputs_DividesGradientAndLossByTheBroadcastCount) {
  const float x[] = {1, 2}, y[] = {0, 0, 0, 0, 0, 0}, one = 1;
  const int64_t row[] = {2}, full[] = {3, 2};
  float loss = 0, out[6];
  ASSERT_TRUE(mseloss::loss_and_grad({x, row}, {y, full}, Reduction::kMean, &one, &loss, {out, full}).ok());
  EXPECT_EQ(loss, 2.5f);
  EXPECT_EQ(out[0], 1.0f * (2.0f / 6));
  float separate[6];
  ASSERT_TRUE(mseloss::grad(&one, {x, row}, {y, full}, Reduction::kMean, {separate, full}).ok());
  EXPECT_EQ(separate[0], 1.0f);  // grad() divides by numel(input) = 2
}

// Of operands with one element too, whose strides are never used.
TEST(FusedErrors, StridesOfAnotherRank_AreRefused) {
  const float x[] = {1, 2}, one = 1;
  const int64_t pair[] = {2}, ones[] = {1, 1}, stride[] = {1};
  float loss = 7, out[] = {7, 7};
  const mseloss::Tensor scalar(&loss), strided(&loss, mseloss::DType::kFloat32, {}, stride);
  const auto refused = [&](const mseloss::ConstTensor& g, const mseloss::Tensor& to, const char* message) {
    const Status status = mseloss::loss_and_grad({x, pair}, {x, pair}, Reduction::kSum, g, to, {out, pair});
    EXPECT_EQ(status.code(), mseloss::Code::kShape);
    EXPECT_STREQ(status.message(), message);
    EXPECT_EQ(loss + out[0] + out[1], 21) << "memory changed";
  };
  refused({&one, ones, stride}, scalar, "grad_output: expected 2 strides, one for each dimension, got 1");
  refused({&one}, strided, "loss: expected 0 strides, one for each dimension, got 1");
  EXPECT_EQ(mseloss::loss({x, pair}, {x, pair}, Reduction::kSum, strided).code(), mseloss::Code::kShape);
}

}  // namespace
