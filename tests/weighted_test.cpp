// Weights and masks, compared bit by bit with exact integers.
#include <array>

#include "tests/support/weighted_calls.h"

namespace {

using namespace weighted;
using mseloss::Code;
using mseloss::PartialSum;

TEST(WeightedProperty, RandomShapesLayoutsDTypesAndWeights_HaveTheExactBits) {
  const auto names = targets();
  for_each_case(14000, [&](Random& random) {
    ASSERT_TRUE(mseloss::set_target(random.pick(names).c_str()).ok());
    random_case(random, true, false);
  });
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
}

TEST(Weighted, SizesAroundVectorsBlocksAndThreads_AreRightOnEveryTarget) {
  Random random(32);
  std::vector<int64_t> sizes{40000, 300007};
  for (int64_t n = 0; n <= 70; ++n) sizes.push_back(n);
  for (int64_t n = 512; n <= 16384; n *= 2) sizes.insert(sizes.end(), {n - 1, n, n + 1});
  for_each_target([&] {
    for (DType dtype : kDTypes)
      for (int64_t n : sizes)
        for (const Weights kind : {Weights::kSigned, Weights::kMask}) {
          if (too_large(n / 10)) continue;
          Operand x(random, dtype, {n}, Layout::kDense), y(random, dtype, {n}, Layout::kDense);
          Operand w(random, weight_dtype(random, dtype, kind), {n}, Layout::kDense);
          x.fill(random, n < 1000 ? random.pick(kValues) : Values::kUnit);
          y.fill(random, Values::kUnit);
          fill_weights(random, w, kind);
          Operand g(random, dtype, {}, Layout::kDense);
          g.fill(random, Values::kUnit);
          Operand loss(random, random.pick(kDTypes), {}, Layout::kDense, true);
          Operand grad(random, dtype, {n}, Layout::kDense, true);
          ASSERT_TRUE(
              is_right(random, x, y, &w, &g, random.pick({Reduction::kMean, Reduction::kSum}), loss, &grad))
              << n;
        }
  });
}

// Terms and weights that cancel, so that numerator or divisor is 0 or almost 0.
TEST(WeightedProperty, WeightsThatCancel_GiveTheExactQuotient) {
  for_each_case(4000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes);
    const int64_t n = 2 * random.range(1, 40);
    Operand x(random, dtype, {n}, Layout::kDense), y(random, dtype, {n}, Layout::kDense);
    Operand w(random, dtype, {n}, Layout::kDense);
    const Values values = random.pick({Values::kIntegers, Values::kUnit, Values::kWide});
    x.fill(random, values);
    y.fill(random, Values::kIntegers);
    fill_weights(random, w, random.pick({Weights::kSigned, Weights::kHuge, Weights::kSubnormal}));
    for (int64_t i = 0; i < n; i += 2) {
      if (random.chance(10)) continue;
      oracle::store(dtype, w.at(i + 1), oracle::encode(dtype, -oracle::decode(dtype, w.bits(i))));
      if (random.chance(60)) {
        oracle::store(dtype, x.at(i + 1), x.bits(i));
        oracle::store(dtype, y.at(i + 1), y.bits(i));
      }
    }
    Operand loss(random, random.pick(kDTypes), {}, Layout::kDense, true);
    ASSERT_TRUE(
        is_right(random, x, y, &w, nullptr, random.pick({Reduction::kMean, Reduction::kSum}), loss, nullptr));
  });
}

// Integers with few bits: their quotients are often ties of the half types.
TEST(WeightedProperty, TiesAndNearTies_AreRoundedOnce) {
  for_each_case(6000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes),
                to = random.pick({DType::kFloat16, DType::kBFloat16, DType::kFloat32});
    const int64_t n = random.range(1, 9);
    const double unit = std::ldexp(1, static_cast<int>(random.range(-8, 8)));
    Operand x(random, dtype, {n}, Layout::kDense), y(random, dtype, {n}, Layout::kDense);
    Operand w(random, dtype, {n}, Layout::kDense);
    for (int64_t i = 0; i < n; ++i) {
      oracle::store(dtype, x.at(i), oracle::encode(dtype, static_cast<double>(random.range(0, 200))));
      oracle::store(dtype, y.at(i), oracle::encode(dtype, 0));
      oracle::store(dtype, w.at(i), oracle::encode(dtype, unit * static_cast<double>(random.range(1, 3))));
    }
    Operand loss(random, to, {}, Layout::kDense, true);
    ASSERT_TRUE(
        is_right(random, x, y, &w, nullptr, random.pick({Reduction::kMean, Reduction::kSum}), loss, nullptr));
  });
}

TEST(Masked, NaNAndInfinityBehindAMask_DoNoHarm) {
  Random random(33);
  for (DType dtype : kDTypes)
    for (Reduction reduction : kReductions) {
      Operand x(random, dtype, {100}, Layout::kDense), y(random, dtype, {100}, Layout::kDense);
      x.fill(random, Values::kSpecial);
      y.fill(random, Values::kSpecial);
      std::array<bool, 100> mask{};
      for (int64_t i = 0; i < 100; ++i) {
        const double d = oracle::decode(dtype, x.bits(i)) - oracle::decode(dtype, y.bits(i));
        mask[static_cast<size_t>(i)] = std::isfinite(d) && std::fabs(d) < 16;
      }
      const Shape shape{100};
      const double infinity = std::numeric_limits<double>::infinity();
      Operand g(random, dtype, {}, Layout::kDense);
      oracle::store(dtype, g.at(0), oracle::encode(dtype, infinity));
      Operand loss(random, dtype, reduction == Reduction::kNone ? shape : Shape(), Layout::kDense, true);
      Operand grad(random, dtype, shape, Layout::kDense, true);
      ASSERT_TRUE(mseloss::loss_and_grad(x.view(), y.view(), {mask.data(), shape}, reduction, g.view(),
                                         loss.tensor(), grad.tensor())
                      .ok());
      for (int64_t i = 0; i < loss.count(); ++i)
        EXPECT_TRUE(std::isfinite(oracle::decode(dtype, loss.bits(i)))) << i;
      for (int64_t i = 0; i < 100; ++i) {
        EXPECT_TRUE(mask[static_cast<size_t>(i)] || grad.bits(i) == 0) << i;
      }
    }
}

// grad() with kNone and kSum is the gradient of loss_and_grad(), and a weight of 1 changes no bit.
TEST(WeightedProperty, GradAgreesWithLossAndGrad) {
  for_each_case(2000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes);
    const Shape all = random_shape(random, 300);
    Operand x(random, dtype, all, random.pick(kLayouts)),
        y(random, dtype, narrowed_to(random, all), Layout::kAny);
    const Weights kind = random.pick(kWeights);
    Operand w(random, weight_dtype(random, dtype, kind), narrowed_to(random, all), random.pick(kLayouts));
    x.fill(random, random.pick(kValues));
    y.fill(random, random.pick(kValues));
    fill_weights(random, w, kind);
    const Reduction reduction = random.pick(kReductions);
    Operand g(random, dtype, {}, Layout::kDense);
    g.fill(random, Values::kUnit);
    Operand a(random, dtype, all, Layout::kAny, true), b(random, dtype, all, Layout::kAny, true);
    Operand loss(random, dtype, reduction == Reduction::kNone ? all : Shape(), Layout::kDense, true);
    ASSERT_TRUE(mseloss::grad(g.view(), x.view(), y.view(), w.view(), reduction, a.tensor()).ok());
    ASSERT_TRUE(
        mseloss::loss_and_grad(x.view(), y.view(), w.view(), reduction, g.view(), loss.tensor(), b.tensor())
            .ok());
    for (int64_t i = 0; i < a.count(); ++i) ASSERT_TRUE(oracle::same(dtype, a.bits(i), b.bits(i))) << i;
    // sum and g = 1: the bits of grad(w, input, target, sum)
    if (kind == Weights::kMask) return;
    Operand one(random, dtype, {}, Layout::kDense), wide(random, dtype, w.shape(), Layout::kDense);
    oracle::store(dtype, one.at(0), oracle::encode(dtype, 1));
    for (int64_t i = 0; i < w.count(); ++i)
      oracle::store(dtype, wide.at(i), oracle::encode(dtype, oracle::decode(w.dtype(), w.bits(i))));
    ASSERT_TRUE(mseloss::grad(one.view(), x.view(), y.view(), w.view(), Reduction::kSum, a.tensor()).ok());
    ASSERT_TRUE(mseloss::grad(wide.view(), x.view(), y.view(), Reduction::kSum, b.tensor()).ok());
    for (int64_t i = 0; i < a.count(); ++i) ASSERT_TRUE(oracle::same(dtype, a.bits(i), b.bits(i))) << i;
  });
}

TEST(WeightedPartialSum, AnyPartitionOrderAndMixture_FinishesAsTheWhole) {
  for_each_case(3000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes), to = random.pick(kDTypes);
    const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
    Slice all;
    std::vector<PartialSum> parts;
    for (int64_t part = random.range(1, 5); part > 0; --part)
      parts.push_back(random_part(random, dtype, &all));
    PartialSum total;
    for (const PartialSum& part : parts) total.merge(part);
    double out = 0;
    if (!total.finish(reduction, to, &out)) {
      ASSERT_FALSE(total.exact());
      return;
    }
    const uint64_t expected = oracle::encode(to, all.rounded(reduction, oracle::format_of(to)));
    ASSERT_TRUE(oracle::same(to, oracle::load(to, &out), expected))
        << mseloss::name_of(reduction) << " to " << mseloss::name_of(to) << ": "
        << text_of(to, oracle::load(to, &out)) << ", not " << text_of(to, expected);
  });
}

TEST(Weighted, OrdinaryData_IsAlmostAlwaysDecidedByTheFastSweep) {
  int64_t sums = 0, undecided = 0;
  for_each_case(2000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes);
    const int64_t n = random.range(2, 2000);
    const Weights kind = random.pick({Weights::kPositive, Weights::kMask});
    Operand x(random, dtype, {n}, Layout::kDense), y(random, dtype, {n}, Layout::kDense);
    Operand w(random, weight_dtype(random, dtype, kind), {n}, Layout::kDense);
    x.fill(random, Values::kUnit);
    y.fill(random, Values::kUnit);
    fill_weights(random, w, kind);
    PartialSum sum;
    ASSERT_TRUE(sum.add(x.view(), y.view(), w.view(), PartialSum::Mode::kFast).ok());
    double out;
    ++sums;
    const DType to = dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
    undecided += !sum.finish(random.pick({Reduction::kMean, Reduction::kSum}), to, &out);
  });
  EXPECT_LE(undecided, 2 + sums / 50);
}

TEST(WeightedRefusal, ArgumentsThatDoNotFit_AreNamed) {
  const Shape two{2}, three{3}, matrix{2, 3}, wrong{1, 2}, rows{2, 1};
  const float x[6] = {}, w[6] = {};
  float out[6] = {};
  const double wide[6] = {};
  const auto message = [](const Status& status, Code code) {
    EXPECT_EQ(status.code(), code) << status.message();
    return std::string(status.message());
  };
  EXPECT_EQ(
      message(mseloss::loss({x, matrix}, {x, matrix}, {wide, matrix}, Reduction::kSum, {out}), Code::kDType),
      "weight: expected bool or a dtype that converts exactly to float32, to which input and target promote, "
      "got "
      "float64");
  EXPECT_EQ(message(mseloss::loss({x, matrix}, {x, matrix}, {w, static_cast<DType>(7), matrix},
                                  Reduction::kSum, {out}),
                    Code::kDType),
            "weight: expected float32, float16, bfloat16, float64 or bool, got dtype code 7");
  EXPECT_EQ(message(mseloss::loss({x, matrix}, {x, matrix}, {w, two}, Reduction::kSum, {out}), Code::kShape),
            "weight: expected a shape that broadcasts with (2, 3), got (2)");
  EXPECT_EQ(message(mseloss::loss({x, matrix}, {x, matrix}, {nullptr, DType::kFloat32, matrix},
                                  Reduction::kSum, {out}),
                    Code::kNullPointer),
            "weight: expected the address of its elements (6 in the broadcast shape), got a null pointer");
  EXPECT_EQ(
      message(mseloss::loss({x, matrix}, {x, matrix}, Reduction::kMean, {out, wrong}), Code::kShape),
      "out: expected a 0-dimensional tensor, or the broadcast shape (2, 3) with extents of 1 for the reduced "
      "dimensions, for reduction mean or sum, got (1, 2)");
  EXPECT_EQ(message(mseloss::loss_and_grad({x, matrix}, {x, matrix}, Reduction::kMean, {w, three},
                                           {out, rows}, {out, matrix}),
                    Code::kShape),
            "grad_output: expected a shape that broadcasts to (2, 1), the shape of loss, got (3)");
  EXPECT_EQ(
      message(mseloss::loss({x, DType::kBool, matrix}, {x, matrix}, Reduction::kMean, {out}), Code::kDType),
      "input: expected float32, float16, bfloat16 or float64, got dtype code 4");
  const Shape still{0, 0};
  EXPECT_EQ(mseloss::loss({x, matrix}, {x, matrix}, Reduction::kSum, {out, rows, still}).code(),
            Code::kOverlap);
  float* inside = const_cast<float*>(x);
  EXPECT_EQ(mseloss::loss({x, matrix}, {x, matrix}, Reduction::kSum, {inside, rows}).code(), Code::kOverlap);
  for (const float value : out) EXPECT_EQ(value, 0);
}

}  // namespace
