// The library's internal number formats, scale and fixed-point sum against the oracle; and the oracle against
// the processor's conversions, so that the reference is itself verified.
#include "numerics/fixed_point.h"
#include "numerics/formats.h"
#include "numerics/scale.h"
#include "tests/support/sums.h"

namespace {

using namespace cases;

TEST(Oracle, Float32AndFloat64ByItsOwnArithmetic_AreTheProcessors) {
  for_each_case(100000, [](Random& random) {
    const double v = std::bit_cast<double>(random.bits());
    const auto narrow = static_cast<float>(v);
    ASSERT_TRUE(oracle::same(DType::kFloat32, oracle::encode_as(oracle::format_of(DType::kFloat32), v),
                             std::bit_cast<uint32_t>(narrow)));
    ASSERT_TRUE(oracle::same(DType::kFloat64, oracle::encode_as(oracle::format_of(DType::kFloat64), v),
                             std::bit_cast<uint64_t>(v)));
    const auto bits = static_cast<uint32_t>(random.bits());
    const double wide = std::bit_cast<float>(bits);
    ASSERT_TRUE(oracle::same(
        DType::kFloat64, std::bit_cast<uint64_t>(oracle::decode_as(oracle::format_of(DType::kFloat32), bits)),
        std::bit_cast<uint64_t>(wide)));
  });
}

TEST(Oracle, KnownHalves_HaveTheirBits) {
  const auto f16 = [](double v) { return oracle::encode(DType::kFloat16, v); };
  EXPECT_EQ(f16(1), 0x3c00u);
  EXPECT_EQ(f16(-2), 0xc000u);
  EXPECT_EQ(f16(65504), 0x7bffu);
  EXPECT_EQ(f16(65519.99), 0x7bffu);
  EXPECT_EQ(f16(65520), 0x7c00u);
  EXPECT_EQ(f16(0x1p-24), 0x0001u);
  EXPECT_EQ(f16(0x1p-25), 0x0000u);
  EXPECT_EQ(f16(-0x1.8p-25), 0x8001u);
  EXPECT_EQ(f16(1 + 0x1p-11), 0x3c00u);
  EXPECT_EQ(f16(1 + 0x3p-11), 0x3c02u);
  EXPECT_EQ(oracle::encode(DType::kBFloat16, 1 + 0x1p-8), 0x3f80u);
  EXPECT_EQ(oracle::encode(DType::kBFloat16, 1 + 0x3p-8), 0x3f82u);
  EXPECT_EQ(oracle::encode(DType::kBFloat16, 0x1.ffp127), 0x7f80u);
}

TEST(Formats, EveryHalf_LoadsAndStoresAsTheOracleSays) {
  for (DType dtype : {DType::kFloat16, DType::kBFloat16})
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const uint64_t half = bits;
      const double expected = oracle::decode(dtype, bits), actual = mseloss::load(dtype, &half);
      ASSERT_TRUE(
          oracle::same(DType::kFloat64, std::bit_cast<uint64_t>(actual), std::bit_cast<uint64_t>(expected)))
          << bits;
      uint64_t stored = 0;
      mseloss::store_exact(actual, dtype, &stored);
      ASSERT_TRUE(oracle::same(dtype, stored, bits)) << bits;
    }
}

// For every two neighbouring half-precision values: the midpoint and the doubles next to it on both sides.
TEST(Formats, EveryTieOfTheHalfFormats_RoundsAsTheOracleSays) {
  for (DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    const uint32_t infinity = dtype == DType::kFloat16 ? 0x7c00 : 0x7f80;
    const double beyond = std::ldexp(1, oracle::format_of(dtype).max_exponent) * 2;
    for (uint32_t bits = 0; bits < infinity; ++bits) {
      const double low = oracle::decode(dtype, bits);
      const double high = bits + 1 == infinity ? beyond : oracle::decode(dtype, bits + 1);
      const double middle = low + (high - low) / 2;
      const uint64_t even = bits & 1 ? bits + 1 : bits;
      const struct {
        double value;
        uint64_t expected;
      } near[] = {
          {std::nextafter(middle, 0), bits}, {middle, even}, {std::nextafter(middle, beyond), bits + 1}};
      for (const auto& [value, expected] : near)
        for (const double sign : {1.0, -1.0}) {
          uint64_t stored = 0;
          mseloss::store_rounded(sign * value, dtype, &stored);
          const uint64_t with_sign = expected | (sign < 0 ? 0x8000 : 0);
          ASSERT_EQ(stored, with_sign) << value;
          ASSERT_EQ(oracle::encode(dtype, sign * value), with_sign) << value;
        }
    }
  }
}

TEST(Formats, RandomDoubles_RoundAsTheOracleSays) {
  for_each_case(100000, [](Random& random) {
    const double v = std::bit_cast<double>(random_value(random, DType::kFloat64, random.pick(kValues)));
    for (DType dtype : kDTypes) {
      uint64_t stored = 0;
      mseloss::store_rounded(v, dtype, &stored);
      ASSERT_TRUE(oracle::same(dtype, stored, oracle::encode(dtype, v))) << v;
    }
  });
}

// The kernels' conversions to the half formats, on every target, at every tie. (x - 0) * 2 * 1/2 is x, so
// grad() only converts.
TEST(Formats, KernelsAtEveryHalfAndTie_ConvertAsTheOracleSays) {
  for (DType to : {DType::kFloat16, DType::kBFloat16}) {
    std::vector<float> x;
    const uint32_t infinity = to == DType::kFloat16 ? 0x7c00 : 0x7f80;
    for (uint32_t bits = 0; bits <= infinity; ++bits) {
      const auto low = static_cast<float>(oracle::decode(to, bits));
      const auto high = static_cast<float>(oracle::decode(to, std::min(bits + 1, infinity)));
      const float middle = std::isinf(high) ? std::numeric_limits<float>::max() : low + (high - low) / 2;
      for (float v : {low, std::nextafter(middle, 0.0f), middle, std::nextafter(middle, high)})
        x.insert(x.end(), {v, -v});
    }
    if (to == DType::kFloat16) x.insert(x.end(), {65519.996f, 65520, 65520.004f, 1e30f});
    x.push_back(std::nanf(""));
    const Shape shape{static_cast<int64_t>(x.size())};
    const float zero = 0, half = 0.5f;
    std::vector<double> wide(x.begin(), x.end());
    const double wide_zero = 0, wide_half = 0.5;
    for_each_target([&] {
      std::vector<uint16_t> out(x.size()), from_wide(x.size());
      ASSERT_TRUE(
          mseloss::grad(&half, {x.data(), shape}, &zero, Reduction::kSum, {out.data(), to, shape}).ok());
      ASSERT_TRUE(mseloss::grad(&wide_half, {wide.data(), shape}, &wide_zero, Reduction::kSum,
                                {from_wide.data(), to, shape})
                      .ok());
      for (size_t i = 0; i < x.size(); ++i) {
        // -0 - 0 is -0; doubling overflows values in the highest binade.
        const double expected = std::fabs(x[i]) >= 0x1p127f ? x[i] * INFINITY : x[i];
        ASSERT_TRUE(oracle::same(to, out[i], oracle::encode(to, expected))) << x[i];
        ASSERT_TRUE(oracle::same(to, from_wide[i], oracle::encode(to, x[i]))) << x[i];
      }
    });
  }
}

TEST(Scale, RandomCountsOf64Bits_GiveTheQuotientRoundedOnce) {
  for_each_case(200000, [](Random& random) {
    const uint64_t n = std::max<uint64_t>(1, random.bits() >> random.range(0, 63));
    ASSERT_EQ(double{mseloss::mean_scale<float>(n)}, oracle::two_over(n, 24)) << n;
    ASSERT_EQ(mseloss::mean_scale<double>(n), oracle::two_over(n, 53)) << n;
  });
}

TEST(FixedPoint, RandomSumsOfSquares_DivideAndRoundAsTheReference) {
  for_each_case(6000, [](Random& random) {
    uint64_t limbs[mseloss::FixedPoint::kLimbs] = {};
    mseloss::FixedPoint sum(limbs);
    exact::Fixed reference;
    for (int64_t k = random.range(0, 30); k > 0; --k) {
      const double d = std::bit_cast<double>(random_finite(random, DType::kFloat64));
      sum.add_product(1, d);
      reference.add_square(d);
    }
    const uint64_t divisor = std::max<uint64_t>(1, random.bits() >> random.range(0, 63));
    const DType to = random.pick(kDTypes);
    const double expected = exact::round_quotient(reference, divisor, oracle::format_of(to));
    uint64_t work[mseloss::FixedPoint::kWork];
    ASSERT_EQ(sum.divide_and_round(divisor, to, work), expected);
  });
}

}  // namespace
