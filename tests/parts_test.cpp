// A gradient computed in parts, with the scale of the whole, has the bits of one call; so has the loss.
#include "tests/support/parts.h"

namespace {

using namespace weighted;
using mseloss::Code;
using Mode = PartialSum::Mode;

// Rows first to last - 1 of a matrix; a matrix of one row is broadcast.
template <class View>
View rows_of(const View& all, int64_t first, int64_t last, Shape* shape) {
  *shape = Shape(all.shape.begin(), all.shape.end());
  if (all.shape[0] == 1) return all;
  (*shape)[0] = last - first;
  const int64_t begin = oracle::count_of(*shape) == 0 ? 0 : first;
  auto rows = all;
  rows.data = static_cast<char*>(const_cast<void*>(static_cast<const void*>(all.data))) +
              begin * all.strides[0] * mseloss::size_of(all.dtype);
  rows.shape = *shape;
  return rows;
}

// Calls add(&sum, part) for every part and returns the sum of all, exchanged as digits.
template <class Add>
PartialSum sum_of_parts(size_t parts, DType dtype, Add add) {
  std::vector<int32_t> total(static_cast<size_t>(PartialSum::digit_count(dtype))), digits = total;
  for (size_t i = 0; i < parts; ++i) {
    PartialSum sum;
    const Status status = add(&sum, i);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(sum.encode(dtype, digits).ok());
    for (size_t k = 0; k < total.size(); ++k) total[k] += digits[k];
  }
  PartialSum whole;
  EXPECT_TRUE(whole.decode(total).ok());
  return whole;
}

TEST(Parts, LossAndGradient_HaveTheBitsOfTheWhole) {
  int64_t undecided = 0, cases = 0;
  for_each_case(3000, [&](Random& random) {
    const DType dtypes[] = {random.pick(kDTypes), random.pick(kDTypes)};
    const DType promoted = oracle::promoted_dtype(dtypes[0], dtypes[1]);
    const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
    const Shape shape{random.range(2, 30), random.range(0, 30)};
    const auto narrow = [&] { return Shape{shape[0], random.chance(30) ? 1 : shape[1]}; };
    Operand x(random, dtypes[0], narrow(), Layout::kAny);
    Operand y(random, dtypes[1], random.chance(20) ? Shape{1, shape[1]} : shape, Layout::kAny);
    const Weights kind = random.pick(kWeights);
    Operand w(random, weight_dtype(random, promoted, kind), random.chance(30) ? Shape{1, 1} : narrow(),
              Layout::kAny);
    Operand g(random, promoted, {}, Layout::kDense);
    Operand out(random, random.pick(kDTypes), oracle::broadcast({x.shape(), y.shape(), shape}), Layout::kAny,
                true);
    for (Operand* operand : {&x, &y, &g}) operand->fill(random, random.pick(kValues));
    fill_weights(random, w, kind);
    const bool weighted = random.chance(60);
    const ConstTensor weights = w.view();
    Shape all = oracle::broadcast({x.shape(), y.shape()});
    if (weighted) all = oracle::broadcast({all, w.shape()});
    if (all != out.shape()) return;  // no operand has the extent
    ++cases;

    std::vector<int64_t> cuts{0, shape[0]};
    for (int64_t i = random.range(0, 4); i > 0; --i) cuts.push_back(random.range(0, shape[0]));
    std::sort(cuts.begin(), cuts.end());
    const size_t parts = cuts.size() - 1;
    Shape shapes[4];
    const auto rows = [&](auto view, size_t i, int which) {
      return rows_of(view, cuts[i], cuts[i + 1], &shapes[which]);
    };
    const auto add = [&](PartialSum* sum, size_t i, Mode mode) {
      const ConstTensor a = rows(x.view(), i, 0), b = rows(y.view(), i, 1);
      return weighted ? sum->add(a, b, rows(weights, i, 2), mode) : sum->add(a, b, mode);
    };
    const auto add_divisor = [&](PartialSum* sum, size_t i, Mode mode) {
      const ConstTensor c = rows(weights, i, 2);
      return sum->add_divisor(rows(x.view(), i, 0), rows(y.view(), i, 1), weighted ? &c : nullptr, mode);
    };
    double scale = -1;
    for (const Mode mode : {Mode::kFast, Mode::kExact}) {
      const PartialSum divisor =
          sum_of_parts(parts, promoted, [&](PartialSum* sum, size_t i) { return add_divisor(sum, i, mode); });
      const PartialSum sum =
          sum_of_parts(parts, promoted, [&](PartialSum* sum, size_t i) { return add(sum, i, mode); });
      double own = -1, of_sum = -1;
      const bool decided = divisor.scale(reduction, promoted, &own);
      if (!decided) {
        ASSERT_NE(mode, Mode::kExact);
        ++undecided;
        continue;
      }
      if (sum.scale(reduction, promoted, &of_sum)) {
        ASSERT_TRUE(of_sum == own || (std::isnan(of_sum) && std::isnan(own))) << of_sum << " not " << own;
      } else {
        ASSERT_NE(mode, Mode::kExact);
      }
      ASSERT_TRUE(scale == -1 || scale == own || (std::isnan(scale) && std::isnan(own)))
          << scale << " not " << own;
      scale = own;
    }

    const auto before = out.storage();
    const PartialSum sum = sum_of_parts(parts, promoted, [&](PartialSum* part, size_t i) {
      const ConstTensor c = rows(weights, i, 2);
      return part->add_with_grad(rows(x.view(), i, 0), rows(y.view(), i, 1), weighted ? &c : nullptr, scale,
                                 g.view(), rows(out.tensor(), i, 3), random_options(random));
    });
    const ConstTensor gradient = g.view();
    const Reference expected = reference(x.view(), y.view(), weighted ? &weights : nullptr, &gradient,
                                         reduction, {}, promoted, out.dtype());
    ASSERT_TRUE(holds(out, expected.grad, before));
    double loss = 0;
    if (sum.finish(reduction, promoted, &loss)) {
      ASSERT_TRUE(oracle::same(promoted, oracle::load(promoted, &loss), expected.loss[0]));
    }
  });
  EXPECT_GT(cases, 100);
  EXPECT_LT(undecided, cases);
}

TEST(Parts, ArgumentsThatDoNotFit_AreNamedAndChangeNothing) {
  const float x[6] = {1, 2, 3, 4, 5, 6}, one = 1;
  float out[6] = {7, 7, 7, 7, 7, 7};
  const int64_t six[] = {6}, five[] = {5};
  const ConstTensor weight(x, five);
  PartialSum sum;
  const auto refused = [&](const Status& status, Code code, const char* name) {
    EXPECT_EQ(status.code(), code) << status.message();
    EXPECT_EQ(std::string(status.message()).find(name), 0u) << status.message();
    EXPECT_EQ(sum.count(), 0u);
    EXPECT_EQ(out[0], 7);
  };
  refused(sum.add_divisor({x, six}, {x, five}, nullptr, Mode::kFast), Code::kShape, "target: ");
  refused(sum.add_divisor({x, six}, {x, six}, &weight, Mode::kFast), Code::kShape, "weight: ");
  refused(sum.add_with_grad({x, six}, {x, five}, nullptr, 2, &one, {out, six}), Code::kShape, "target: ");
  refused(sum.add_with_grad({x, six}, {x, six}, &weight, 2, &one, {out, six}), Code::kShape, "weight: ");
  refused(sum.add_with_grad({x, six}, {x, six}, nullptr, 2, {x, six}, {out, six}), Code::kShape,
          "grad_output: ");
  refused(sum.add_with_grad({x, six}, {x, six}, nullptr, 2, &one, {out, five}), Code::kShape, "grad_input: ");
  refused(sum.add_with_grad({out, six}, {x, six}, nullptr, 2, &one, {out + 1, five}), Code::kShape,
          "grad_input: ");
  Options device;
  device.device = mseloss::Device::kCuda;
  refused(sum.add({x, six}, {x, six}, Mode::kFast, device), Code::kDevice, "device: ");
  refused(sum.add_with_grad({x, six}, {x, six}, nullptr, 2, &one, {out, six}, device), Code::kDevice,
          "device: ");
  double scale = 7;
  EXPECT_FALSE(sum.scale(Reduction::kNone, DType::kFloat32, &scale));
  EXPECT_EQ(scale, 7);
}

// Differences of 0 times an infinite weight would add NaN.
TEST(Parts, DivisorsOfInfiniteWeights_LeaveTheSum) {
  const float x[] = {3, 5}, y[] = {1, 1}, w[] = {INFINITY, 1}, one[] = {1, 1};
  const int64_t pair[] = {2};
  const mseloss::ConstTensor weight(w, pair), ones(one, pair);
  for (const Mode mode : {Mode::kFast, Mode::kExact}) {
    mseloss::PartialSum sum;
    ASSERT_TRUE(sum.add_divisor({x, pair}, {y, pair}, &weight, mode).ok());
    ASSERT_TRUE(sum.add({x, pair}, {y, pair}, ones, mode).ok());
    float out = 0;
    ASSERT_TRUE(sum.finish(Reduction::kSum, mseloss::DType::kFloat32, &out));
    EXPECT_EQ(out, 20);
    double scale = 1;
    ASSERT_TRUE(sum.scale(Reduction::kMean, mseloss::DType::kFloat32, &scale));
    EXPECT_EQ(scale, 0);  // 2 / infinity
  }
}

// The error bound of a sum with negative weights comes from their magnitudes, also where the gradient
// replaces them: it must be the bound of the same call with a gradient elsewhere.
TEST(Parts, GradientInPlaceOfTheOperandsOfASignedSum_KeepsItsBound) {
  const auto names = targets();
  for_each_case(400, [&](Random& random) {
    ASSERT_TRUE(mseloss::set_target(random.pick(names).c_str()).ok());
    const DType dtype = random.pick(kDTypes);
    const Shape shape{random.range(1, 60)};
    Operand x(random, dtype, shape, Layout::kDense), y(random, dtype, shape, Layout::kDense);
    Operand w(random, dtype, shape, Layout::kDense), out(random, dtype, shape, Layout::kDense, true);
    Operand g(random, dtype, {}, Layout::kDense);
    for (Operand* operand : {&x, &y, &w}) operand->fill(random, Values::kUnit);
    oracle::store(dtype, g.at(0), oracle::encode(dtype, 0x1p-6));
    const ConstTensor weight = w.view();
    PartialSum apart, in_place;
    ASSERT_TRUE(apart.add_with_grad(x.view(), y.view(), &weight, 2, g.view(), out.tensor()).ok());
    Operand* const replaced = random.pick({&x, &y, &w});
    ASSERT_TRUE(in_place.add_with_grad(x.view(), y.view(), &weight, 2, g.view(), replaced->tensor()).ok());
    ASSERT_GE(in_place.bound(), 0.9 * apart.bound()) << in_place.fast_sum() << ' ' << apart.fast_sum();
  });
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
}

// An exact part below the smallest float64, and a fast one without any error.
TEST(Parts, ExactPartBelowTheRangeOfFloat64BesideAFastOne_IsNotTakenForZero) {
  const double x = 0x1p-9, y = 0, w = 0x1p-1074;
  const ConstTensor weight(&w);
  PartialSum sum, exact;
  ASSERT_TRUE(sum.add_divisor({&x}, {&y}, &weight, Mode::kFast).ok());
  ASSERT_TRUE(sum.add({&x}, {&y}, weight, Mode::kExact).ok());
  double mean = 7;
  if (sum.finish(Reduction::kMean, DType::kFloat64, &mean)) {
    EXPECT_EQ(mean, 0x1p-19);
  }
  ASSERT_TRUE(exact.add_divisor({&x}, {&y}, &weight, Mode::kExact).ok());
  ASSERT_TRUE(exact.add({&x}, {&y}, weight, Mode::kExact).ok());
  ASSERT_TRUE(exact.finish(Reduction::kMean, DType::kFloat64, &mean));
  EXPECT_EQ(mean, 0x1p-19);
}

}  // namespace
