// Error bounds of the sums of slices: data whose fast sums are wrong, where only the bounds tell so.
#include "tests/support/sums.h"
#include "tests/support/weighted_calls.h"

namespace {

using namespace weighted;

// Dense operands over one axis of {a, b}, with memory that tests write directly.
struct Matrix {
  Matrix(Random& random, DType dtype, Shape shape) : x(random, dtype, shape, Layout::kDense), y(x), w(x) {
    for (Operand* operand : {&x, &y, &w}) operand->fill(random, Values::kUnit);
  }
  void set(Operand& operand, int64_t i, double value) {
    oracle::store(operand.dtype(), operand.at(i), oracle::encode(operand.dtype(), value));
  }
  Operand x, y, w;
};

// The squares of most elements lose 1.5 smallest subnormals each without fused multiply-add, always in the
// same direction; the sums lie beside a rounding tie.
TEST(SliceBounds, ManySquaresThatUnderflow_AreWithinTheErrorBound) {
  constexpr double kBiased = 0x1.c9adcae644eb1p-522;
  Random random(35);
  for (const Shape& all : {Shape{4000, 2}, Shape{60, 96}}) {
    const bool rows = all[1] == 96;
    Matrix m(random, DType::kFloat64, all);
    for (int64_t i = 0; i < m.x.count(); ++i) {
      const bool first = rows && i % 96 == 0;
      m.set(m.x, i, first ? std::ldexp(1 + random.unit(), -506) : kBiased);
      m.set(m.y, i, 0);
      m.set(m.w, i, 1);
    }
    if (!rows) {  // so that the loss crosses a rounding tie
      m.set(m.x, 0, 0x1.e92c6f2f49249p-501);
      m.set(m.x, 1, 0x1.29f173aecb47ep-503);
    }
    for_each_target([&] {
      Operand loss(random, DType::kFloat64, rows ? Shape{60, 1} : Shape{1, 2}, Layout::kDense, true);
      for (Operand* weight : {static_cast<Operand*>(nullptr), &m.w})
        for (int repeat = 0; repeat < 2; ++repeat)
          ASSERT_TRUE(is_right(random, m.x, m.y, weight, nullptr, Reduction::kSum, loss, nullptr));
    });
  }
}

// Two terms of 2^60 w that cancel hide a 1 from the fast sums, which only their magnitudes tell. Rows that
// are short and long, and columns that are a stream and not.
TEST(SliceBounds, TermsThatCancel_LeaveTheRest) {
  Random random(36);
  for_each_target([&] {
    for (const Shape& all : {Shape{70, 3}, Shape{66, 40}, Shape{3, 300}, Shape{9, 9}, Shape{5, 131}})
      for (const int axis : {0, 1})
        for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
          Matrix m(random, dtype, all);
          const int64_t slices = all[static_cast<size_t>(1 - axis)], n = all[static_cast<size_t>(axis)];
          for (int64_t slice = 0; slice < slices; ++slice)
            for (int64_t i = 0; i < n; ++i) {
              const int64_t at = axis == 0 ? i * all[1] + slice : slice * all[1] + i;
              const double large = dtype == DType::kFloat32 ? 0x1p30 : 0x1p60;
              m.set(m.x, at, i == 0 ? 1 : i > 2 ? 0 : large);
              m.set(m.y, at, 0);
              m.set(m.w, at, i == 2 ? -3 : 3);
            }
          Shape loss_shape = all;
          loss_shape[static_cast<size_t>(axis)] = 1;
          Operand loss(random, dtype, loss_shape, Layout::kDense, true);
          Operand g(random, dtype, loss_shape, Layout::kDense),
              grad(random, dtype, all, Layout::kDense, true);
          g.fill(random, Values::kUnit);
          for (const Reduction reduction : {Reduction::kSum, Reduction::kMean}) {
            ASSERT_TRUE(is_right(random, m.x, m.y, &m.w, nullptr, reduction, loss, nullptr));
            ASSERT_TRUE(is_right(random, m.x, m.y, &m.w, &g, reduction, loss, &grad));
          }
        }
  });
}

// The same, and scales within 2^-60 of a tie between two float32, in slices whose tiles are divided between
// threads: the parts of a sum decide nothing, and the slice is computed again with its gradient.
TEST(SliceBounds, PartsOfTheTermsOfASlice_LeaveItUndecided) {
  constexpr int64_t kLength = 70000;
  for_each_case(12, [&](Random& random) {
    if (too_large(2 * kLength)) return;
    const bool rows = random.chance(50), scales = random.chance(50);
    const Shape all = rows ? Shape{2, kLength} : Shape{kLength, 2};
    Matrix m(random, DType::kFloat32, all);
    for (int64_t i = 0; i < m.x.count(); ++i) {
      m.set(m.w, i, scales ? 0 : 3);
      if (!scales) m.set(m.x, i, 0);
      if (!scales) m.set(m.y, i, 0);
    }
    for (int64_t slice = 0; slice < 2; ++slice) {
      const auto at = [&](int64_t i) { return rows ? slice * kLength + i : 2 * i + slice; };
      long double rest = 2.0L / static_cast<long double>(random.range(1 << 23, (1 << 24) - 1) * 2 + 1);
      for (const int64_t i :
           {int64_t{0}, random.range(1, kLength / 2), random.range(kLength / 2 + 1, kLength - 1)}) {
        if (scales) {
          const auto part = static_cast<float>(rest);
          rest -= part;
          m.set(m.w, at(i), part);
        } else {
          m.set(m.x, at(i), i == 0 ? 1 : 0x1p30);
          m.set(m.w, at(i), i > kLength / 2 ? -3 : 3);
        }
      }
    }
    const Shape loss_shape = rows ? Shape{2, 1} : Shape{1, 2};
    Operand g(random, DType::kFloat32, loss_shape, Layout::kDense);
    g.fill(random, Values::kUnit);
    Operand loss(random, DType::kFloat32, loss_shape, Layout::kDense, true);
    Operand grad(random, DType::kFloat32, all, Layout::kDense, true);
    const Reduction reduction = scales ? Reduction::kMean : random.pick({Reduction::kMean, Reduction::kSum});
    ASSERT_TRUE(is_right(random, m.x, m.y, &m.w, &g, reduction, loss, &grad));
  });
}

// Float64 sums of 1 + 2^-53 - 2^-101 and 88 terms of almost 2^-107. The terms lift the sum above the tie at
// 1 + 2^-53, but the low part of the fast sum, below 2^-53, absorbs each that is in its lane: on the scalar
// target all, which is more than the rounding test adds to the bound of a row's sum.
TEST(SliceBounds, TermsBelowTheLowPart_DecideTies) {
  Random random(39);
  std::vector<double> terms{1};
  for (const double root : squares_adding_to((uint64_t{1} << 49) - 2, 53)) terms.push_back(root * 0x1p-51);
  ASSERT_LE(terms.size(), 8u);
  while (terms.size() < 96) terms.push_back(1.41 * 0x1p-54);
  for_each_target([&] {
    for (const bool rows : {true, false}) {
      const Shape all = rows ? Shape{9, 96} : Shape{96, 9};
      Matrix m(random, DType::kFloat64, all);
      for (int64_t i = 0; i < m.x.count(); ++i) {
        m.set(m.x, i, terms[static_cast<size_t>(rows ? i % 96 : i / 9)]);
        m.set(m.y, i, 0);
        m.set(m.w, i, 1);
      }
      Operand loss(random, DType::kFloat64, rows ? Shape{9, 1} : Shape{1, 9}, Layout::kDense, true);
      for (Operand* weight : {static_cast<Operand*>(nullptr), &m.w})
        for (int repeat = 0; repeat < 3; ++repeat)
          ASSERT_TRUE(is_right(random, m.x, m.y, weight, nullptr, Reduction::kSum, loss, nullptr));
    }
  });
}

}  // namespace
