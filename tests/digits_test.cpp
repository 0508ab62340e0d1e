// Digits of partial sums: whatever integers are added in whatever order, the bits are those of the whole.
#include "tests/support/parts.h"
#include "tests/support/sums.h"

namespace {

using namespace weighted;
using mseloss::Code;
using Digits = std::vector<int32_t>;
using Mode = PartialSum::Mode;

Digits digits_of(const PartialSum& sum, DType dtype) {
  Digits digits(static_cast<size_t>(PartialSum::digit_count(dtype)), -1);
  const Status status = sum.encode(dtype, digits);
  EXPECT_TRUE(status.ok()) << status.message();
  return digits;
}

PartialSum sum_of(const Digits& digits) {
  PartialSum sum;
  const Status status = sum.decode(digits);
  EXPECT_TRUE(status.ok()) << status.message();
  return sum;
}

void add(Digits* total, const Digits& other) {
  for (size_t i = 0; i < other.size(); ++i) (*total)[i] += other[i];
}

// A random dtype to encode a sum with inputs of `dtype` for.
DType digits_dtype(Random& random, DType dtype) {
  return dtype == DType::kFloat64 || random.chance(30) ? DType::kFloat64 : random.pick(kDTypes);
}

bool same_bytes(const PartialSum& a, const PartialSum& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// Merges the sums in random pairs: as digits, as sums, or as the sums of digits.
PartialSum merged_as_digits(Random& random, const std::vector<PartialSum>& sums, DType dtype) {
  std::vector<Digits> left;
  for (const PartialSum& sum : sums) left.push_back(digits_of(sum, dtype));
  while (left.size() > 1) {
    std::swap(left[static_cast<size_t>(random.range(0, static_cast<int64_t>(left.size()) - 1))], left.back());
    const Digits last = left.back();
    left.pop_back();
    Digits& other = left[static_cast<size_t>(random.range(0, static_cast<int64_t>(left.size()) - 1))];
    if (random.chance(70)) {
      add(&other, last);
    } else {
      PartialSum sum = sum_of(other);
      sum.merge(sum_of(last));
      other = digits_of(sum, dtype);
    }
  }
  return sum_of(left[0]);
}

TEST(Digits, AnyTreeOrderAndMixture_FinishesAsTheWhole) {
  int64_t decided = 0, undecided = 0;
  for_each_case(6000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes), to = random.pick(kDTypes);
    const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
    Slice all;
    std::vector<PartialSum> parts;
    uint64_t count = 0;
    bool exact = true;
    for (int64_t part = random.range(1, 9); part > 0; --part) {
      parts.push_back(random_part(random, dtype, &all));
      count += parts.back().count();
      exact = exact && parts.back().exact();
    }
    const PartialSum total = merged_as_digits(random, parts, digits_dtype(random, dtype));
    ASSERT_EQ(total.count(), count);
    ASSERT_TRUE(total.exact() || !exact);
    double out = 0;
    if (!total.finish(reduction, to, &out)) {
      ASSERT_FALSE(total.exact());
      ++undecided;
      return;
    }
    ++decided;
    const uint64_t expected = oracle::encode(to, all.rounded(reduction, oracle::format_of(to)));
    ASSERT_TRUE(oracle::same(to, oracle::load(to, &out), expected))
        << mseloss::name_of(reduction) << " of " << mseloss::name_of(dtype) << " to " << mseloss::name_of(to)
        << ": " << text_of(to, oracle::load(to, &out)) << ", not " << text_of(to, expected);
  });
  EXPECT_GT(decided, undecided);
}

TEST(Digits, OfExactSums_AreTheBytesOfTheMerge) {
  for_each_case(2000, [](Random& random) {
    const DType dtype = random.pick(kDTypes);
    std::vector<PartialSum> parts;
    PartialSum total;
    for (int64_t part = random.range(1, 9); part > 0; --part) {
      Operand x(random, dtype, {random.range(0, 40)}, Layout::kAny),
          y(random, dtype, x.shape(), Layout::kAny);
      x.fill(random, Values::kWide);
      y.fill(random, Values::kWide);
      PartialSum sum;
      ASSERT_TRUE(sum.add(x.view(), y.view(), Mode::kExact).ok());
      total.merge(sum);
      parts.push_back(sum);
    }
    ASSERT_TRUE(same_bytes(merged_as_digits(random, parts, digits_dtype(random, dtype)), total));
  });
}

TEST(Digits, BoundOfAddedFastSums_HoldsTheExactSum) {
  for_each_case(3000, [](Random& random) {
    const DType dtype = random.pick(kDTypes);
    exact::Sum reference;
    std::vector<PartialSum> parts;
    for (int64_t part = random.range(1, 9); part > 0; --part) {
      const Values values = random.pick(kValues);
      Operand x(random, dtype, {random.range(0, 200)}, Layout::kAny),
          y(random, dtype, x.shape(), Layout::kAny);
      x.fill(random, values);
      y.fill(random, values);
      PartialSum sum;
      ASSERT_TRUE(sum.add(x.view(), y.view(), Mode::kFast).ok());
      reference.add(oracle::differences(x.view(), y.view()));
      parts.push_back(sum);
    }
    const PartialSum total = merged_as_digits(random, parts, digits_dtype(random, dtype));
    ASSERT_TRUE(!reference.finite() || bound_holds(total, reference.fixed()))
        << total.fast_sum() << " within " << total.bound();
  });
}

// Squares below the range of float64, which a fast sum loses.
TEST(Digits, BoundOfSquaresThatUnderflow_HoldsTheExactSum) {
  const double x[] = {0x1p-545, 0x1.8p-540, 0x1p-600}, zero = 0;
  const int64_t shape[] = {3};
  PartialSum sum;
  ASSERT_TRUE(sum.add({x, shape}, &zero, Mode::kFast).ok());
  exact::Sum reference;
  reference.add({x[0], x[1], x[2], x[0], x[1], x[2]});
  Digits digits = digits_of(sum, DType::kFloat64);
  add(&digits, digits);
  const PartialSum total = sum_of(digits);
  EXPECT_EQ(total.fast_sum(), 0);
  EXPECT_TRUE(bound_holds(total, reference.fixed())) << total.bound();
}

// Terms below the range of float64, whose weights are not: the two sums have bounds of different kinds.
TEST(Digits, WeightedSquaresThatUnderflow_FinishAsTheWhole) {
  int64_t decided = 0;
  for_each_case(4000, [&](Random& random) {
    constexpr int64_t kCount = 100;
    const int64_t shape[] = {kCount};
    const int exponent = static_cast<int>(random.range(150, 530));
    const int weight = std::min(0, 2 * exponent - static_cast<int>(random.range(700, 1120)));
    std::vector<double> x, y(kCount), w;
    for (int64_t i = 0; i < kCount; ++i) {
      x.push_back(std::ldexp(1 + random.unit(), -exponent));
      w.push_back(std::ldexp(1 + random.unit(), weight));
    }
    const auto reduction = random.pick({Reduction::kMean, Reduction::kSum});
    PartialSum sum;
    ASSERT_TRUE(sum.add({x.data(), shape}, {y.data(), shape}, {w.data(), shape}, Mode::kFast).ok());
    double expected, actual;
    ASSERT_TRUE(
        mseloss::loss({x.data(), shape}, {y.data(), shape}, {w.data(), shape}, reduction, {&expected}).ok());
    if (!sum_of(digits_of(sum, DType::kFloat64)).finish(reduction, DType::kFloat64, &actual)) return;
    ++decided;
    EXPECT_EQ(actual, expected);
  });
  EXPECT_GT(decided, 0);
}

TEST(Digits, OrdinaryData_IsAlmostAlwaysDecidedByTheFastSweep) {
  int64_t sums = 0, undecided = 0;
  for_each_case(3000, [&](Random& random) {
    // Sums of half-precision squares have few bits and are often ties of float32.
    const DType dtype = random.pick({DType::kFloat32, DType::kFloat64});
    const Weights kind = random.pick({Weights::kPositive, Weights::kMask});
    Digits total;
    const bool plain = random.chance(50);
    for (int part = 0; part < 8; ++part) {
      Operand x(random, dtype, {random.range(0, 500)}, Layout::kDense),
          y(random, dtype, x.shape(), Layout::kDense);
      Operand w(random, weight_dtype(random, dtype, kind), x.shape(), Layout::kDense);
      x.fill(random, Values::kUnit);
      y.fill(random, Values::kUnit);
      if (part == 0) y = x;  // differences of 0
      fill_weights(random, w, kind);
      PartialSum sum;
      ASSERT_TRUE((plain ? sum.add(x.view(), y.view(), Mode::kFast)
                         : sum.add(x.view(), y.view(), w.view(), Mode::kFast))
                      .ok());
      const Digits digits = digits_of(sum, dtype);
      total.resize(digits.size());
      add(&total, digits);
    }
    ++sums;
    double out;
    undecided += !sum_of(total).finish(random.pick({Reduction::kMean, Reduction::kSum}), dtype, &out);
  });
  EXPECT_LE(undecided, 2 + sums / 100);
}

TEST(Digits, OfTheLargestNumberOfArrays_DoNotOverflow) {
  const double inputs[] = {1.5, -0x1.fffffffffffffp511, 0x1p-1074};
  const int64_t shape[] = {3};
  const double zero = 0;
  for (const bool weighted : {false, true})
    for (const Mode mode : {Mode::kFast, Mode::kExact}) {
      const double w[] = {-3, -2, -1};
      PartialSum sum;
      ASSERT_TRUE((weighted ? sum.add({inputs, shape}, &zero, {w, shape}, mode)
                            : sum.add({inputs, shape}, &zero, mode))
                      .ok());
      PartialSum expected;
      for (int i = 0; i < PartialSum::kMaxArrays; ++i) expected.merge(sum);
      Digits digits = digits_of(sum, DType::kFloat64);
      for (int32_t& word : digits) {
        int32_t product;
        ASSERT_FALSE(__builtin_mul_overflow(word, PartialSum::kMaxArrays, &product));
        word = product;
      }
      const PartialSum total = sum_of(digits);
      EXPECT_EQ(total.count(), 3u * PartialSum::kMaxArrays);
      EXPECT_TRUE(mode == Mode::kFast || same_bytes(total, expected));
      double out = 0, exact = 0;
      if (total.finish(Reduction::kMean, DType::kFloat64, &out) &&
          expected.finish(Reduction::kMean, DType::kFloat64, &exact)) {
        EXPECT_EQ(out, exact);
      }
      ++digits[0];
      EXPECT_EQ(PartialSum().decode(digits).code(), Code::kDigits);
    }
}

TEST(Digits, OfNothing_AreTheNeutralElement) {
  for (const DType dtype : kDTypes) {
    Digits digits = digits_of(PartialSum(), dtype);
    EXPECT_TRUE(same_bytes(sum_of(digits), PartialSum()));
    const float x = 3, y = 1;
    PartialSum sum;
    ASSERT_TRUE(sum.add(&x, &y, Mode::kExact).ok());
    add(&digits, digits_of(sum, dtype));
    EXPECT_TRUE(same_bytes(sum_of(digits), sum));
  }
}

TEST(Digits, WordsThatNoSumHas_AreRefusedAndChangeNothing) {
  const float x = 3, y = 1;
  const double wide = 0x1p600, zero = 0;
  PartialSum sum, total;
  ASSERT_TRUE(sum.add(&x, &y, Mode::kFast).ok());
  ASSERT_TRUE(total.add(&wide, &zero, Mode::kExact).ok());
  const PartialSum before = total;
  const auto refused = [&](const Digits& digits, Code code) {
    const Status status = total.decode(digits);
    EXPECT_EQ(status.code(), code) << status.message();
    EXPECT_EQ(std::string(status.message()).substr(0, 8), "digits: ");
    EXPECT_TRUE(same_bytes(before, total));
  };
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
    const Digits good = digits_of(sum, dtype);
    const auto changed = [&](size_t at, int32_t by) {
      Digits digits = good;
      digits[at] += by;
      return digits;
    };
    refused({}, Code::kShape);
    refused(Digits(good.begin(), good.end() - 1), Code::kShape);
    refused(Digits(good.size()), Code::kDigits);
    refused(changed(0, -1), Code::kDigits);
    refused(changed(0, 40000), Code::kDigits);
    refused(changed(1, 1), Code::kDigits);
    refused(changed(2, 1), Code::kDigits);
    for (size_t at = 3; at < good.size(); ++at) {
      refused(changed(at, -100000), Code::kDigits);
      refused(changed(at, 100000), Code::kDigits);
    }
    refused(changed(3, -1), Code::kDigits);               // a square, but no element
    refused(changed(good.size() - 1, 1), Code::kDigits);  // weights, but no element with a weight
  }
  // A mixture of versions with the right mean.
  Digits mixed = digits_of(sum, DType::kFloat32);
  add(&mixed, mixed);
  const int32_t kind = mixed[1] / 2;
  mixed[2] = (kind - 1) * (kind - 1) + (kind + 1) * (kind + 1);
  refused(mixed, Code::kDigits);

  Digits narrow(static_cast<size_t>(PartialSum::digit_count(DType::kFloat32)), 7);
  const auto unwritten = [&] { return std::count(narrow.begin(), narrow.end(), 7) == std::ssize(narrow); };
  EXPECT_EQ(total.encode(DType::kFloat32, narrow).code(), Code::kDType);
  EXPECT_EQ(total.encode(DType::kFloat64, narrow).code(), Code::kShape);
  EXPECT_EQ(total.encode(DType::kBool, narrow).code(), Code::kDType);
  EXPECT_EQ(total.encode(static_cast<DType>(9), narrow).code(), Code::kDType);
  EXPECT_TRUE(unwritten());
}

TEST(Digits, RandomWords_AreRefusedOrHarmless) {
  for_each_case(20000, [](Random& random) {
    const DType dtype = random.pick(kDTypes);
    Slice all;
    Digits digits = digits_of(random_part(random, dtype, &all), dtype);
    for (int64_t changes = random.range(1, 4); changes > 0; --changes) {
      const auto at = static_cast<size_t>(random.range(3, static_cast<int64_t>(digits.size()) - 1));
      digits[at] = static_cast<int32_t>(random.pick({int64_t{0}, int64_t{1}, random.range(0, 65535)}));
    }
    PartialSum sum;
    if (!sum.decode(digits).ok()) return;
    digits.assign(static_cast<size_t>(PartialSum::digit_count(DType::kFloat64)), 0);
    ASSERT_TRUE(sum.encode(DType::kFloat64, digits).ok());
    ASSERT_TRUE(sum.decode(digits).ok());
    double out;
    sum.merge(sum);
    sum.finish(Reduction::kMean, dtype, &out);
    sum.scale(Reduction::kMean, dtype, &out);
  });
}

// One such sum fits in the words of float32, but two of them would change the sign.
TEST(Digits, SumLargerThanItsCountAllows_IsRefusedForANarrowDType) {
  const double x = 0x1.52p228, y = 0, w = 1;
  const float small = 0x1.8p127f, zero = 0;
  for (const auto mode : {PartialSum::Mode::kFast, PartialSum::Mode::kExact}) {
    std::vector<int32_t> words(static_cast<size_t>(PartialSum::digit_count(DType::kFloat32)));
    PartialSum sum, narrow;
    ASSERT_TRUE(sum.add({&x}, {&y}, {&w}, mode).ok());
    EXPECT_EQ(sum.encode(DType::kFloat32, words).code(), mseloss::Code::kDType);
    ASSERT_TRUE(narrow.add({&small}, {&zero}, {&small}, mode).ok());  // nearly the largest term of float32
    EXPECT_TRUE(narrow.encode(DType::kFloat32, words).ok());
  }
}

}  // namespace
