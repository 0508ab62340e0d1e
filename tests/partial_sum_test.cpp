// Partial sums: every partition, order and mixture of modes gives the same bits.
#include <type_traits>

#include "tests/support/sums.h"

namespace {

using namespace cases;
using mseloss::Code;
using Mode = PartialSum::Mode;

static_assert(std::is_trivially_copyable_v<PartialSum>);
// Without padding, equal values have equal bytes.
static_assert(std::has_unique_object_representations_v<std::array<uint64_t, PartialSum::kLimbs>> &&
              sizeof(PartialSum) == 8 * (11 + 2 * PartialSum::kLimbs));

bool same_bytes(const PartialSum& a, const PartialSum& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

struct Partition {
  std::vector<PartialSum> sums;
  exact::Sum total;
};

// Sums the parts of a random partition of random data, in *mode or, if null, each in a random mode.
Partition random_partition(Random& random, DType dtype, Values values, const Mode* mode) {
  const int64_t n = random.range(0, 600);
  Operand x(random, dtype, {n}, Layout::kDense), y(random, dtype, {n}, Layout::kDense);
  x.fill(random, values);
  y.fill(random, values);
  Partition partition;
  for (int64_t first = 0; first < n || partition.sums.empty();) {
    const int64_t last = std::min(n, first + random.range(0, random.chance(50) ? 10 : 300));
    const Shape shape{last - first};
    const int64_t offset = first * oracle::bytes_of(dtype);
    const ConstTensor xs{static_cast<const char*>(x.view().data) + offset, dtype, shape};
    const ConstTensor ys{static_cast<const char*>(y.view().data) + offset, dtype, shape};
    PartialSum sum;
    EXPECT_TRUE(sum.add(xs, ys, mode ? *mode : random.chance(50) ? Mode::kFast : Mode::kExact).ok());
    partition.sums.push_back(sum);
    partition.total.add(oracle::differences(xs, ys));
    first = last;
  }
  return partition;
}

// Merges random pairs until one sum is left, so any merge order and tree can occur.
PartialSum merged(Random& random, std::vector<PartialSum> sums) {
  while (sums.size() > 1) {
    const auto i = static_cast<size_t>(random.range(0, static_cast<int64_t>(sums.size()) - 1));
    std::swap(sums[i], sums.back());
    const PartialSum last = sums.back();
    sums.pop_back();
    sums[static_cast<size_t>(random.range(0, static_cast<int64_t>(sums.size()) - 1))].merge(last);
  }
  return sums[0];
}

TEST(PartialSum, AnyPartitionOrderAndMixtureOfModes_FinishesAsTheWhole) {
  int64_t decided = 0, undecided = 0;
  for_each_case(6000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes), to = random.pick(kDTypes);
    const Reduction reduction = random.chance(50) ? Reduction::kSum : Reduction::kMean;
    const Partition partition = random_partition(random, dtype, random.pick(kValues), nullptr);
    const PartialSum sum = merged(random, partition.sums);
    ASSERT_EQ(sum.count(), partition.total.count());
    uint64_t out = 0x5555555555555555;
    if (!sum.finish(reduction, to, &out)) {
      ASSERT_FALSE(sum.exact());
      ASSERT_EQ(out, 0x5555555555555555);
      ++undecided;
      return;
    }
    ++decided;
    ASSERT_TRUE(oracle::same(to, oracle::load(to, &out), partition.total.rounded(reduction, to)))
        << std::hex << oracle::load(to, &out) << " not " << partition.total.rounded(reduction, to);
  });
  EXPECT_GT(decided, undecided);
}

TEST(PartialSum, BoundOfMergedFastSums_HoldsTheExactSum) {
  for_each_case(3000, [](Random& random) {
    const Mode fast = Mode::kFast;
    const DType dtype = random.pick(kDTypes);
    const Partition partition = random_partition(random, dtype, random.pick(kValues), &fast);
    const PartialSum sum = merged(random, partition.sums);
    ASSERT_TRUE(!partition.total.finite() || bound_holds(sum, partition.total.fixed()));
  });
}

TEST(PartialSum, ExactSumsInAnyOrder_AreTheSameBytes) {
  for_each_case(2000, [](Random& random) {
    const Mode exact = Mode::kExact;
    const DType dtype = random.pick(kDTypes);
    const Values values = random.chance(50) ? Values::kWide : Values::kUnit;
    const Partition partition = random_partition(random, dtype, values, &exact);
    const PartialSum a = merged(random, partition.sums), b = merged(random, partition.sums);
    ASSERT_TRUE(a.exact());
    ASSERT_TRUE(!partition.total.finite() || same_bytes(a, b));
  });
}

TEST(PartialSum, ExactMerge_IsAssociativeAndCommutative) {
  for_each_case(1000, [](Random& random) {
    PartialSum p[3];
    for (PartialSum& sum : p) {
      Operand x(random, DType::kFloat16, {random.range(0, 50)}, Layout::kAny);
      x.fill(random, Values::kWide);
      const float zero = 0;
      ASSERT_TRUE(sum.add(x.view(), &zero, Mode::kExact).ok());
    }
    PartialSum ab = p[0], bc = p[1], ba = p[1];
    ab.merge(p[1]);
    ba.merge(p[0]);
    ASSERT_TRUE(same_bytes(ab, ba));
    ab.merge(p[2]);
    bc.merge(p[2]);
    PartialSum a_bc = p[0];
    a_bc.merge(bc);
    ASSERT_TRUE(same_bytes(ab, a_bc));
  });
}

TEST(PartialSum, PiecesAddedToOneSum_EqualPiecesMerged) {
  const float x[] = {1, 2, 3, 4, 5}, y[] = {5, 1, 0, 7, 0.5f};
  const int64_t two[] = {2}, three[] = {3};
  for (Mode mode : {Mode::kFast, Mode::kExact}) {
    PartialSum added, first, second;
    ASSERT_TRUE(added.add({x, two}, {y, two}, mode).ok());
    ASSERT_TRUE(added.add({x + 2, three}, {y + 2, three}, mode).ok());
    ASSERT_TRUE(first.add({x, two}, {y, two}, mode).ok());
    ASSERT_TRUE(second.add({x + 2, three}, {y + 2, three}, mode).ok());
    second.merge(first);
    EXPECT_EQ(added.count(), 5u);
    EXPECT_EQ(added.fast_sum(), second.fast_sum());
    double a = 0, b = 0;
    ASSERT_TRUE(added.finish(Reduction::kMean, DType::kFloat64, &a) || mode == Mode::kFast);
    ASSERT_TRUE(second.finish(Reduction::kMean, DType::kFloat64, &b) || mode == Mode::kFast);
    EXPECT_EQ(a, b);
  }
}

TEST(PartialSum, SumMergedWithItself_Doubles) {
  const float x[] = {1, 2, 3}, zero = 0;
  const int64_t three[] = {3};
  for (Mode mode : {Mode::kFast, Mode::kExact}) {
    PartialSum sum;
    ASSERT_TRUE(sum.add({x, three}, &zero, mode).ok());
    sum.merge(sum);
    float out = 0;
    EXPECT_EQ(sum.count(), 6u);
    ASSERT_TRUE(sum.finish(Reduction::kSum, DType::kFloat16, &out) || mode == Mode::kFast);
    EXPECT_EQ(oracle::decode(DType::kFloat16, oracle::load(DType::kFloat16, &out)), 28);
  }
}

TEST(PartialSum, NonFiniteDifferences_SurviveEveryMerge) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::nanf(""), zero = 0, one = 1;
  for (Mode mode : {Mode::kFast, Mode::kExact})
    for (Mode other : {Mode::kFast, Mode::kExact}) {
      PartialSum a, b, c;
      ASSERT_TRUE(a.add(&infinity, &zero, mode).ok());
      ASSERT_TRUE(b.add(&one, &zero, other).ok());
      ASSERT_TRUE(c.add(&nan, &zero, mode).ok());
      b.merge(a);
      double out = 0;
      ASSERT_TRUE(b.finish(Reduction::kMean, DType::kFloat64, &out));
      EXPECT_EQ(out, infinity);
      a.merge(b);
      a.merge(c);
      ASSERT_TRUE(a.finish(Reduction::kSum, DType::kFloat64, &out));
      EXPECT_TRUE(std::isnan(out));
    }
}

TEST(PartialSum, SquaresOfDoubleThatOverflow_AreNotLostOnTheWay) {
  const double huge = 0x1.8p600, zero = 0;
  PartialSum fast, exact;
  ASSERT_TRUE(fast.add(&huge, &zero, Mode::kFast).ok());
  ASSERT_TRUE(exact.add(&huge, &zero, Mode::kExact).ok());
  double out = 0;
  ASSERT_TRUE(exact.finish(Reduction::kSum, DType::kFloat64, &out));
  EXPECT_EQ(out, std::numeric_limits<double>::infinity());
  // The sum exceeds float64, but the mean is finite.
  const double edge = 0x1p512;
  PartialSum mean;
  ASSERT_TRUE(mean.add(&edge, &zero, Mode::kExact).ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(mean.add(&zero, &zero, Mode::kExact).ok());
  ASSERT_TRUE(mean.finish(Reduction::kMean, DType::kFloat64, &out));
  EXPECT_EQ(out, 0x1p1022);
  EXPECT_EQ(fast.count(), 1u);
}

TEST(PartialSum, NothingAdded_SumsToZeroAndHasNoMean) {
  const PartialSum nothing;
  float out = 5;
  EXPECT_TRUE(nothing.exact());
  EXPECT_FALSE(nothing.finish(Reduction::kNone, DType::kFloat32, &out));
  EXPECT_EQ(out, 5);
  ASSERT_TRUE(nothing.finish(Reduction::kSum, DType::kFloat32, &out));
  EXPECT_EQ(std::bit_cast<uint32_t>(out), 0u);
  ASSERT_TRUE(nothing.finish(Reduction::kMean, DType::kFloat32, &out));
  EXPECT_TRUE(std::isnan(out));
}

TEST(PartialSum, RefusedPieces_ChangeNothing) {
  const float x[] = {1, 2, 3}, y[] = {4, 5, 6};
  const int64_t two[] = {2}, three[] = {3}, nine[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  PartialSum sum;
  ASSERT_TRUE(sum.add({x, three}, {y, three}, Mode::kFast).ok());
  for (Mode mode : {Mode::kFast, Mode::kExact}) {
    const PartialSum before = sum;
    EXPECT_EQ(sum.add({x, three}, {y, two}, mode).code(), Code::kShape);
    EXPECT_EQ(sum.add({x, nine}, {y, two}, mode).code(), Code::kRank);
    EXPECT_EQ(sum.add({nullptr, DType::kFloat32, three}, {y, three}, mode).code(), Code::kNullPointer);
    EXPECT_EQ(sum.add({x, static_cast<DType>(9), three}, {y, three}, mode).code(), Code::kDType);
    EXPECT_TRUE(same_bytes(before, sum));
  }
}

}  // namespace
