// Bitwise comparison of sums and means with an exact big-integer reference.
#include "tests/support/sums.h"

namespace {

using namespace cases;

Reduction sum_or_mean(Random& random) { return random.chance(50) ? Reduction::kSum : Reduction::kMean; }

TEST(LossProperty, RandomShapesStridesBroadcastsAndDTypes_AreRoundedOnceFromTheExactSum) {
  Tally tally;
  const auto names = targets();
  for_each_case(14000, [&](Random& random) {
    ASSERT_TRUE(mseloss::set_target(random.pick(names).c_str()).ok());
    const DType dtype = random.pick(kDTypes);
    const Shape all = random_shape(random, random.chance(3) ? 20000 : 300);
    Operand x(random, dtype, narrowed(random, all), random.pick(kLayouts));
    Operand y(random, random.chance(75) ? dtype : random.pick(kDTypes), narrowed(random, all),
              random.pick(kLayouts));
    const Values values = random.pick(kValues);
    x.fill(random, values);
    y.fill(random, values);
    ASSERT_TRUE(sum_is_right(random, x.view(), y.view(), sum_or_mean(random), random.pick(kDTypes), &tally));
  });
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
}

// Exponents from a random window of the format: includes subnormals and squares that underflow or overflow.
TEST(LossProperty, AnyBandOfExponents_IsRoundedOnceFromTheExactSum) {
  Tally tally;
  for_each_case(8000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes);
    const auto format = oracle::format_of(dtype);
    const int64_t width = random.range(0, 60), n = random.range(1, 300);
    const int64_t low = random.range(format.lowest_exponent, format.max_exponent);
    Operand x(random, dtype, {n}, Layout::kAny, true), y(random, dtype, {n}, Layout::kAny, true);
    for (Operand* operand : {&x, &y})
      for (int64_t i = 0; i < n; ++i) {
        const double v = std::ldexp(random.unit() + 1, static_cast<int>(low + random.range(0, width)));
        oracle::store(dtype, operand->at(i), oracle::encode(dtype, random.chance(50) ? v : -v));
      }
    ASSERT_TRUE(sum_is_right(random, x.view(), y.view(), sum_or_mean(random), random.pick(kDTypes), &tally));
  });
}

TEST(LossProperty, SumsOnAndBesideRoundingTies_NeedTheExactSweepAndAreRight) {
  Tally tally;
  for_each_case(10000, [&](Random& random) {
    const DType from = random.pick(kDTypes), to = random.pick(kDTypes);
    const Reduction reduction = sum_or_mean(random);
    const HardSum hard = hard_sum(random, from, to, reduction);
    if (hard.differences.empty()) return;
    const auto [x, y] = pair_with(random, from, hard.differences, hard.zeros);
    ASSERT_TRUE(sum_is_right(random, x.view(), y.view(), reduction, to, &tally));
  });
  EXPECT_GT(tally.undecided, tally.sums / 4);
}

TEST(LossProperty, OneHugeTermAmongManyTiny_IsRoundedOnceFromTheExactSum) {
  Tally tally;
  for_each_case(3000, [&](Random& random) {
    const DType from = random.pick(kDTypes), to = random.pick(kDTypes);
    const auto format = oracle::format_of(from);
    const int precision = oracle::format_of(to).precision;
    // A sum close to 1 plus half a unit in the last place of `to`, where tiny terms decide the rounding.
    std::vector<double> d{1};
    const int below = static_cast<int>(random.range(precision / 2, precision / 2 + 45));
    for (int64_t k = random.range(1, 200); k > 0; --k) d.push_back(std::ldexp(1, -below));
    if (random.chance(50)) d.push_back(std::ldexp(1, -(precision + 1) / 2));
    const int shift = static_cast<int>(
        random.range(std::min(format.lowest_exponent + below, format.max_exponent), format.max_exponent));
    for (double& v : d) v = std::ldexp(v, shift);
    const auto [x, y] = pair_with(random, from, d, random.range(0, 5));
    ASSERT_TRUE(sum_is_right(random, x.view(), y.view(), sum_or_mean(random), to, &tally));
  });
}

TEST(Loss, OrdinaryData_IsAlmostAlwaysDecidedByTheFastSweep) {
  Tally tally;
  for_each_case(2000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes);
    const int64_t n = random.range(2, 2000);
    Operand x(random, dtype, {n}, Layout::kDense), y(random, dtype, {n}, Layout::kDense);
    x.fill(random, Values::kUnit);
    y.fill(random, Values::kUnit);
    const DType to = dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    ASSERT_TRUE(sum_is_right(random, x.view(), y.view(), sum_or_mean(random), to, &tally));
  });
  EXPECT_LE(tally.undecided, 2 + tally.sums / 50);
}

TEST(Loss, SizesAroundVectorsBlocksAndThreads_AreRightOnEveryTarget) {
  Tally tally;
  Random random(21);
  std::vector<int64_t> sizes{40000, 65537, 300007};
  for (int64_t n = 0; n <= 130; ++n) sizes.push_back(n);
  for (int64_t n = 256; n <= 16384; n *= 2) sizes.insert(sizes.end(), {n - 1, n, n + 1});
  for_each_target([&] {
    for (DType dtype : kDTypes)
      for (int64_t n : sizes) {
        if (too_large(n / 10)) continue;
        Operand x(random, dtype, {n}, Layout::kDense), y(random, dtype, {n}, Layout::kDense);
        const Values values = n < 1000 ? random.pick(kValues) : Values::kUnit;
        x.fill(random, values);
        y.fill(random, values);
        ASSERT_TRUE(
            sum_is_right(random, x.view(), y.view(), sum_or_mean(random), random.pick(kDTypes), &tally));
      }
  });
}

TEST(Loss, RowsAroundVectorsBesideARowOrAColumn_AreRightOnEveryTarget) {
  Tally tally;
  Random random(22);
  for_each_target([&] {
    for (DType dtype : kDTypes)
      for (int64_t n = 1; n <= 210; ++n) {
        if (too_large(n / 10)) continue;
        const int64_t rows = random.range(2, 12);
        const Shape other = random.chance(50)   ? Shape{1, n}
                            : random.chance(50) ? Shape{rows, 1}
                                                : Shape{rows, n};
        Operand x(random, dtype, {rows, n}, Layout::kSliced), y(random, dtype, other, Layout::kDense);
        const Values values = random.pick(kValues);
        x.fill(random, values);
        y.fill(random, values);
        ASSERT_TRUE(
            sum_is_right(random, x.view(), y.view(), sum_or_mean(random), random.pick(kDTypes), &tally));
      }
  });
}

TEST(Loss, EveryPairOfSpecialValues_FollowsTheRuleForNaNAndInfinity) {
  Tally tally;
  Random random(22);
  for (DType dtype : kDTypes)
    for (uint64_t a : special_values(dtype))
      for (uint64_t b : special_values(dtype)) {
        Operand x(random, dtype, {3}, Layout::kDense, true), y(random, dtype, {3}, Layout::kDense, true);
        x.fill(random, Values::kSpecial);
        y.fill(random, Values::kUnit);
        oracle::store(dtype, x.at(1), a);
        oracle::store(dtype, y.at(1), b);
        ASSERT_TRUE(
            sum_is_right(random, x.view(), y.view(), sum_or_mean(random), random.pick(kDTypes), &tally));
      }
}

TEST(Loss, EmptyInputs_SumToZeroAndHaveNoMean) {
  const Shape empty{4, 0, 2};
  for (DType to : kDTypes) {
    double memory = 7;
    ASSERT_TRUE(mseloss::loss({nullptr, DType::kFloat32, empty}, {nullptr, DType::kFloat32}, Reduction::kSum,
                              {&memory, to})
                    .ok());
    EXPECT_EQ(oracle::load(to, &memory), 0u);
    ASSERT_TRUE(mseloss::loss({nullptr, DType::kFloat32, empty}, {nullptr, DType::kFloat32}, Reduction::kMean,
                              {&memory, to})
                    .ok());
    EXPECT_TRUE(std::isnan(oracle::decode(to, oracle::load(to, &memory))));
  }
}

TEST(Loss, EqualInputs_GivePositiveZero) {
  Tally tally;
  for_each_case(300, [&](Random& random) {
    Operand x(random, random.pick(kDTypes), {random.range(1, 300)}, Layout::kAny);
    x.fill(random, Values::kWide);
    ASSERT_TRUE(sum_is_right(random, x.view(), x.view(), sum_or_mean(random), random.pick(kDTypes), &tally));
  });
}

TEST(Loss, PermutedElementsAnyThreadsAndTarget_GiveTheSameBits) {
  for (DType dtype : kDTypes) {
    Random random(23);
    const int64_t n = 100003;
    std::vector<double> d;
    for (int64_t i = 0; i < n; ++i)
      d.push_back(oracle::decode(dtype, random_value(random, dtype, Values::kUnit)));
    const auto reference = [&] {
      exact::Sum sum;
      for (double v : d) sum.add(v);
      return sum.rounded(Reduction::kMean, DType::kFloat64);
    }();
    for_each_target([&] {
      for (int threads = 1; threads <= 8; ++threads) {
        const auto [x, y] = pair_with(random, dtype, d, 0);
        double loss = 0;
        ASSERT_TRUE(mseloss::loss(x.view(), y.view(), Reduction::kMean, {&loss}, {threads}).ok());
        ASSERT_EQ(std::bit_cast<uint64_t>(loss), reference) << threads;
      }
    });
  }
}

}  // namespace
