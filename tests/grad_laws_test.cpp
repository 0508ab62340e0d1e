// Properties of the gradient for arbitrary operands: random cases against the oracle, and algebraic laws.
#include "tests/support/cases.h"

namespace {

using namespace cases;

TEST(GradientProperty, RandomShapesStridesBroadcastsAndValues_EqualTheOracle) {
  const auto names = targets();
  for_each_case(24000, [&](Random& random) {
    ASSERT_TRUE(mseloss::set_target(random.pick(names).c_str()).ok());
    const DType dtype = random.pick(kDTypes), to = random.chance(70) ? dtype : random.pick(kDTypes);
    const Shape all = random_shape(random, random.chance(3) ? 20000 : 500);
    const bool writable = random.chance(20);  // any input may then also be the output
    std::vector<Operand> inputs;
    for (int i = 0; i < 3; ++i) {
      inputs.emplace_back(random, dtype, narrowed(random, all), random.pick(kLayouts), writable);
      inputs.back().fill(random, random.pick(kValues));
    }
    const Shape shape = oracle::broadcast({inputs[0].shape(), inputs[1].shape(), inputs[2].shape()});
    Operand fresh(random, to, shape, random.pick(kLayouts), true), *out = &fresh;
    if (writable)
      for (Operand& input : inputs)
        if (input.shape() == shape && random.chance(60)) out = &input;
    ASSERT_TRUE(grad_is_right(inputs[0], inputs[1], inputs[2], random.pick(kReductions), *out,
                              random_options(random)));
  });
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
}

oracle::Bits grad_bits(Operand& g, Operand& x, Operand& y, Reduction reduction, const Options& options = {}) {
  Random random(0);
  const Shape shape = oracle::broadcast({g.shape(), x.shape(), y.shape()});
  Operand out(random, x.dtype(), shape, Layout::kDense, true);
  const Status status = mseloss::grad(g.view(), x.view(), y.view(), reduction, out.tensor(), options);
  EXPECT_TRUE(status.ok()) << status.message();
  oracle::Bits bits;
  for (int64_t i = 0; i < out.count(); ++i) bits.push_back(out.bits(i));
  return bits;
}

TEST(GradientLaw, EqualInputAndTarget_GiveZero) {
  for_each_case(400, [](Random& random) {
    const DType dtype = random.pick(kDTypes);
    Operand g(random, dtype, {}, Layout::kDense), x(random, dtype, {random.range(1, 300)}, Layout::kAny);
    g.fill(random, Values::kWide);
    x.fill(random, Values::kWide);
    for (Reduction reduction : kReductions)
      for (uint64_t bits : grad_bits(g, x, x, reduction)) ASSERT_EQ(oracle::decode(dtype, bits), 0);
  });
}

TEST(GradientLaw, SwappingInputAndTarget_FlipsTheSignOnly) {
  for_each_case(400, [](Random& random) {
    const DType dtype = random.pick(kDTypes);
    const Shape shape{random.range(1, 40), random.range(1, 40)};
    Operand g(random, dtype, shape, Layout::kAny), x(random, dtype, shape, Layout::kAny);
    Operand y(random, dtype, shape, Layout::kAny);
    for (Operand* operand : {&g, &x, &y}) operand->fill(random, Values::kWide);
    const Reduction reduction = random.pick(kReductions);
    const auto original = grad_bits(g, x, y, reduction), swapped = grad_bits(g, y, x, reduction);
    const uint64_t sign = uint64_t{1} << (8 * oracle::bytes_of(dtype) - 1);
    for (size_t i = 0; i < original.size(); ++i) {
      // The difference of equal values is +0 in both orders.
      const bool zero = oracle::decode(dtype, original[i]) == 0;
      ASSERT_TRUE(
          oracle::same(dtype, original[i] | (zero ? sign : 0), (swapped[i] ^ sign) | (zero ? sign : 0)));
    }
  });
}

TEST(GradientLaw, MeanTimesCount_IsSumToTheRoundingOfItsSteps) {
  for_each_case(400, [](Random& random) {
    const DType dtype = random.chance(50) ? DType::kFloat32 : DType::kFloat64;
    const int64_t n = random.range(1, 3000);
    Operand g(random, dtype, {}, Layout::kDense), x(random, dtype, {n}, Layout::kAny);
    Operand y(random, dtype, {n}, Layout::kAny);
    for (Operand* operand : {&g, &x, &y}) operand->fill(random, Values::kUnit);
    const auto mean = grad_bits(g, x, y, Reduction::kMean), sum = grad_bits(g, x, y, Reduction::kSum);
    // The scale and the products with d and with g are each rounded once; `sum` has at most two roundings.
    const double unit = std::ldexp(1, -oracle::format_of(dtype).precision);
    for (size_t i = 0; i < sum.size(); ++i) {
      const double expected = oracle::decode(dtype, sum[i]);
      const double error = std::fabs(oracle::decode(dtype, mean[i]) * static_cast<double>(n) - expected);
      ASSERT_LE(error, 6 * unit * std::fabs(expected) + 1e-300);
    }
  });
}

TEST(GradientLaw, CountThatIsAPowerOfTwo_MakesMeanTimesCountExactlySum) {
  for (DType dtype : kDTypes) {
    Random random(11);
    Operand g(random, dtype, {}, Layout::kDense), x(random, dtype, {64}, Layout::kDense);
    Operand y(random, dtype, {64}, Layout::kDense);
    for (Operand* operand : {&g, &x, &y}) operand->fill(random, Values::kIntegers);
    const auto mean = grad_bits(g, x, y, Reduction::kMean), sum = grad_bits(g, x, y, Reduction::kSum);
    for (size_t i = 0; i < sum.size(); ++i)
      EXPECT_EQ(oracle::decode(dtype, mean[i]) * 64, oracle::decode(dtype, sum[i]));
  }
}

TEST(GradientLaw, AnyThreadsTargetAndStore_GiveTheSameBits) {
  for (DType dtype : kDTypes)
    for (const Shape& shape : {Shape{200003}, Shape{431, 517}, Shape{20, 30, 40, 10}}) {
      Random random(12);
      Operand g(random, dtype, {}, Layout::kDense), x(random, dtype, shape, Layout::kDense);
      Operand y(random, dtype, shape, Layout::kTransposed);
      for (Operand* operand : {&g, &x, &y}) operand->fill(random, Values::kWide);
      oracle::Bits first;
      for_each_target([&] {
        for (int threads = 1; threads <= 8; ++threads)
          for (int store = 0; store < 3; ++store) {
            if (store != threads % 3 && (threads > 2 || too_large(oracle::count_of(shape)))) continue;
            const auto bits = grad_bits(g, x, y, Reduction::kMean, {threads, Options::Store(store)});
            if (first.empty()) first = bits;
            for (size_t i = 0; i < bits.size(); ++i)
              ASSERT_TRUE(oracle::same(dtype, first[i], bits[i])) << i << ", threads " << threads;
          }
      });
    }
}

TEST(GradientLaw, ViewsAndTheirDenseCopies_GiveTheSameBits) {
  for_each_case(1000, [](Random& random) {
    const DType dtype = random.pick(kDTypes);
    const Shape all = random_shape(random, 2000);
    std::vector<Operand> views, copies;
    for (int i = 0; i < 3; ++i) {
      views.emplace_back(random, dtype, all, Layout::kAny);
      views.back().fill(random, random.pick(kValues));
      copies.emplace_back(random, dtype, all, Layout::kDense);
      for (int64_t k = 0; k < views.back().count(); ++k)
        oracle::store(dtype, copies.back().at(k), views.back().bits(k));
    }
    const Reduction reduction = random.pick(kReductions);
    const auto a = grad_bits(views[0], views[1], views[2], reduction);
    const auto b = grad_bits(copies[0], copies[1], copies[2], reduction);
    for (size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(oracle::same(dtype, a[i], b[i]));
  });
}

}  // namespace
