// Losses over some of the axes, compared bit by bit with exact integers.
#include "tests/support/sums.h"
#include "tests/support/weighted_calls.h"

namespace {

using namespace weighted;

TEST(SlicesProperty, RandomAxesWithoutWeights_HaveTheExactBits) {
  const auto names = targets();
  for_each_case(10000, [&](Random& random) {
    ASSERT_TRUE(mseloss::set_target(random.pick(names).c_str()).ok());
    random_case(random, false, true);
  });
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
}

TEST(SlicesProperty, RandomAxesWithWeights_HaveTheExactBits) {
  const auto names = targets();
  for_each_case(10000, [&](Random& random) {
    ASSERT_TRUE(mseloss::set_target(random.pick(names).c_str()).ok());
    random_case(random, true, true);
  });
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
}

// Every subset of the axes of a tensor of rank 5, with and without weights, in every dtype.
TEST(Slices, EverySubsetOfAxesUpToRank5_IsExact) {
  Random random(31);
  for (const Shape& all :
       {Shape{}, Shape{7}, Shape{3, 70}, Shape{4, 3, 9}, Shape{2, 3, 4, 17}, Shape{3, 2, 4, 3, 5}})
    for (unsigned axes = 0; axes < 1u << all.size(); ++axes)
      for (DType dtype : kDTypes)
        for (const Weights kind : {Weights::kPositive, Weights::kSigned, Weights::kMask}) {
          Shape loss_shape = all;
          for (size_t k = 0; k < all.size(); ++k)
            if (axes >> k & 1) loss_shape[k] = 1;
          Operand x(random, dtype, all, random.pick(kLayouts)), y(random, dtype, all, random.pick(kLayouts));
          Operand w(random, weight_dtype(random, dtype, kind), narrowed(random, all), random.pick(kLayouts));
          x.fill(random, Values::kUnit);
          y.fill(random, Values::kUnit);
          fill_weights(random, w, kind);
          Operand g(random, dtype, loss_shape, random.pick(kLayouts));
          g.fill(random, Values::kUnit);
          Operand loss(random, dtype, loss_shape, Layout::kAny, true),
              grad(random, dtype, all, Layout::kAny, true);
          const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
          for (Operand* weight : {static_cast<Operand*>(nullptr), &w}) {
            ASSERT_TRUE(is_right(random, x, y, weight, nullptr, reduction, loss, nullptr)) << axes;
            ASSERT_TRUE(is_right(random, x, y, weight, &g, reduction, loss, &grad)) << axes;
          }
        }
}

// Rows and columns around the sizes at which the kernels change: short rows, wide rows, vectors, tiles.
TEST(Slices, SizesAroundVectorsRowsAndTiles_AreExactOnEveryTarget) {
  Random random(34);
  std::vector<Shape> shapes{{2, 2049}, {33, 1030}, {3, 5000}};
  for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 95, 96, 97}) shapes.push_back({37, n});
  for (int64_t n : {64, 127, 128, 129, 255, 257, 511, 513, 1025}) shapes.push_back({random.range(1, 35), n});
  size_t next = 0;
  for_each_target([&] {
    for (const Shape& all : shapes)
      for (const int axis : {0, 1}) {
        const DType dtype = kDTypes[next++ % 4];
        Shape loss_shape = all;
        loss_shape[static_cast<size_t>(axis)] = 1;
        const Weights kind = random.pick({Weights::kPositive, Weights::kSigned, Weights::kMask});
        Operand x(random, dtype, all, random.pick({Layout::kDense, Layout::kAny}));
        Operand y(random, dtype, random.chance(80) ? all : loss_shape, Layout::kDense);
        Operand w(random, weight_dtype(random, dtype, kind), all, Layout::kDense);
        x.fill(random, random.pick({Values::kUnit, Values::kIntegers}));
        y.fill(random, Values::kUnit);
        fill_weights(random, w, kind);
        Operand g(random, dtype, {}, Layout::kDense);
        g.fill(random, Values::kUnit);
        Operand loss(random, random.pick(kDTypes), loss_shape, Layout::kDense, true);
        Operand grad(random, dtype, all, Layout::kDense, true);
        const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
        Operand* weight = random.chance(50) ? &w : nullptr;
        ASSERT_TRUE(is_right(random, x, y, weight, nullptr, reduction, loss, nullptr));
        ASSERT_TRUE(is_right(random, x, y, weight, &g, reduction, loss, &grad));
      }
  });
}

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
TEST(Slices, ManySquaresThatUnderflow_AreWithinTheErrorBound) {
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
TEST(Slices, TermsThatCancel_LeaveTheRest) {
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

// Float64 sums of 1 + 2^-53 - 2^-101 and 88 terms of almost 2^-107. The terms lift the sum above the tie at
// 1 + 2^-53, but the low part of the fast sum, below 2^-53, absorbs each that is in its lane: on the scalar
// target all, which is more than the rounding test adds to the bound of a row's sum.
TEST(Slices, TermsBelowTheLowPart_DecideTies) {
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

// Streams of columns whose period is shorter and longer than their slots, and rows that are no stream, with
// their gradient at every alignment that non-temporal stores distinguish.
TEST(Slices, StreamsOfColumnsAtEveryAlignment_AreExactOnEveryTarget) {
  Random random(37);
  for_each_target([&] {
    for (const int64_t n : {1, 2, 3, 5, 8, 16, 37, 63, 125, 127, 129, 256})
      for (const DType dtype : kDTypes) {
        const Shape all{4 * 32 + random.range(0, 9), n}, loss_shape{1, n};
        const int step = oracle::bytes_of(dtype) * static_cast<int>(random.range(0, 64));
        const auto operand = [&](const Shape& shape, bool output) {
          Operand result(random, dtype, shape, Layout::kDense, output, step % 64);
          result.fill(random, random.pick({Values::kUnit, Values::kIntegers}));
          return result;
        };
        Operand x = operand(all, false), y = operand(all, false), w = operand(all, false),
                g = operand({}, false);
        Operand loss = operand(loss_shape, true), grad = operand(all, true);
        const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
        ASSERT_TRUE(is_right(random, x, y, nullptr, nullptr, reduction, loss, nullptr));
        ASSERT_TRUE(is_right(random, x, y, nullptr, &g, reduction, loss, &grad));
        ASSERT_TRUE(is_right(random, x, y, &w, &g, reduction, loss, &grad));
      }
  });
}

// Slices that are too few for the threads: their tiles are divided into parts, and a mean's gradient with
// weights is a second pass. Infinite terms, NaN and cancellation meet terms of other parts.
TEST(Slices, FewLongSlicesOnSeveralThreads_AreExact) {
  Random random(38);
  for (const Shape& all : {Shape{2, 70000}, Shape{70000, 2}, Shape{140, 7, 143}})
    for (const int kind : {0, 1, 2}) {
      if (too_large(oracle::count_of(all))) continue;
      const DType dtype = random.pick({DType::kFloat32, DType::kFloat64});
      Operand x(random, dtype, all, Layout::kDense), y(random, dtype, all, Layout::kDense);
      Operand w(random, kind == 2 ? DType::kBool : dtype, all, Layout::kDense);
      x.fill(random, Values::kUnit);
      y.fill(random, Values::kUnit);
      fill_weights(random, w, kind == 2 ? Weights::kMask : Weights::kSigned);
      const double large = dtype == DType::kFloat32 ? 0x1p100 : 0x1p600;
      for (const double value : {large, std::numeric_limits<double>::infinity(), std::nan("")}) {
        if (kind == 0 || random.chance(50)) continue;
        const int64_t at = random.range(0, x.count() - 1);
        oracle::store(dtype, x.at(at), oracle::encode(dtype, value));
      }
      for (const unsigned axes : all.size() == 2 ? std::vector{1u, 2u} : std::vector{5u, 1u, 4u}) {
        Shape loss_shape = all;
        for (size_t k = 0; k < all.size(); ++k)
          if (axes >> k & 1) loss_shape[k] = 1;
        if (oracle::count_of(loss_shape) > 1000) continue;
        Operand g(random, dtype, loss_shape, Layout::kDense);
        g.fill(random, Values::kUnit);
        Operand loss(random, dtype, loss_shape, Layout::kDense, true);
        Operand grad(random, dtype, all, Layout::kDense, true);
        Operand* weight = kind == 0 ? nullptr : &w;
        const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum, Reduction::kMean});
        ASSERT_TRUE(is_right(random, x, y, weight, &g, reduction, loss, &grad)) << axes;
      }
    }
}

// Many slices of which each is on or beside a rounding tie, or at the ends of the formats.
TEST(SlicesProperty, SumsOnAndBesideRoundingTies_AreRoundedOnce) {
  const auto names = targets();
  for_each_case(3000, [&](Random& random) {
    ASSERT_TRUE(mseloss::set_target(random.pick(names).c_str()).ok());
    const DType from = random.pick(kDTypes), to = random.pick(kDTypes);
    const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
    // Slices have one count, so the sums of a mean, which divides by it, are copies of one.
    std::vector<HardSum> sums;
    size_t n = 1;
    for (int64_t i = random.range(1, 20); i > 0; --i) {
      const bool copy = reduction == Reduction::kMean && !sums.empty();
      sums.push_back(copy ? sums.front() : hard_sum(random, from, to, reduction));
      n = std::max(n, sums.back().differences.size() + static_cast<size_t>(sums.back().zeros));
    }
    const bool rows = random.chance(50);
    const auto count = static_cast<int64_t>(sums.size()), length = static_cast<int64_t>(n);
    const Shape all = rows ? Shape{count, length} : Shape{length, count};
    Operand x(random, from, all, random.pick({Layout::kDense, Layout::kAny}));
    Operand y(random, from, {}, Layout::kDense);
    oracle::store(from, y.at(0), oracle::encode(from, 0));
    for (int64_t i = 0; i < count; ++i) {
      std::vector<double> differences = sums[static_cast<size_t>(i)].differences;
      differences.resize(n);
      for (int64_t j = 0; j < length; ++j) {
        const int64_t at = rows ? i * length + j : j * count + i;
        oracle::store(from, x.at(at), oracle::encode(from, differences[static_cast<size_t>(j)]));
      }
    }
    Operand loss(random, to, rows ? Shape{count, 1} : Shape{1, count}, Layout::kDense, true);
    ASSERT_TRUE(is_right(random, x, y, nullptr, nullptr, reduction, loss, nullptr));
  });
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
}

// A slice's scale, 2 / sum(w), within 2^-60 of the middle between two float32: the fast sum leaves its
// rounding open, so loss and gradient of that slice are computed again.
TEST(SlicesProperty, ScalesBesideRoundingTies_AreRoundedOnce) {
  for_each_case(300, [&](Random& random) {
    const bool rows = random.chance(50);
    const int64_t count = random.range(1, 300);
    const Shape all = rows ? Shape{count, 3} : Shape{3, count};
    Operand x(random, DType::kFloat32, all, random.pick({Layout::kDense, Layout::kAny}));
    Operand y(random, DType::kFloat32, all, Layout::kDense), w(random, DType::kFloat32, all, Layout::kDense);
    x.fill(random, Values::kUnit);
    y.fill(random, Values::kUnit);
    for (int64_t i = 0; i < count; ++i) {
      const bool tie = random.chance(20);
      const auto middle = static_cast<long double>(random.range(1 << 23, (1 << 24) - 1) * 2 + (tie ? 1 : 0));
      long double rest = 2 / middle;
      for (int64_t j = 0; j < 3; ++j) {
        const auto part = static_cast<float>(rest);
        rest -= part;
        oracle::store(DType::kFloat32, w.at(rows ? i * 3 + j : j * count + i),
                      oracle::encode(DType::kFloat32, part));
      }
    }
    const Shape loss_shape = rows ? Shape{count, 1} : Shape{1, count};
    Operand g(random, DType::kFloat32, loss_shape, Layout::kDense);
    g.fill(random, Values::kUnit);
    Operand loss(random, random.pick(kDTypes), loss_shape, Layout::kAny, true);
    Operand grad(random, DType::kFloat32, all, Layout::kDense, true);
    ASSERT_TRUE(is_right(random, x, y, &w, &g, Reduction::kMean, loss, &grad));
  });
}

// Slices of one element: the gradient may have the memory of grad_output, which undecided slices need
// afterwards.
TEST(Slices, GradientInPlaceOfGradOutput_IsThatOfTheFormula) {
  constexpr int64_t kRows = 64;
  const int64_t shape[] = {kRows, 1};
  float x[kRows], y[kRows] = {}, w[kRows], g[kRows], loss[kRows];
  for (int64_t i = 0; i < kRows; ++i) {
    x[i] = i % 3 == 0 ? 2 : 4097;  // 4097^2 is a tie in float32
    w[i] = 3;
    g[i] = 5;
  }
  const ConstTensor weight{w, shape};
  ASSERT_TRUE(mseloss::loss_and_grad({x, shape}, {y, shape}, weight, Reduction::kMean, {g, shape},
                                     {loss, shape}, {g, shape})
                  .ok());
  const float scale = 2.0f / 3;
  for (int64_t i = 0; i < kRows; ++i) {
    ASSERT_EQ(loss[i], x[i] * x[i]);
    ASSERT_EQ(g[i], (x[i] * scale) * (3.0f * 5));
  }
}

TEST(Slices, EmptySlices_SumToZeroAndHaveNoMean) {
  const Shape empty{3, 0}, rows{3, 1}, columns{1, 0};
  float out[3] = {5, 5, 5};
  ASSERT_TRUE(mseloss::loss({nullptr, DType::kFloat32, empty}, {nullptr, DType::kFloat32, empty},
                            Reduction::kSum, {out, rows})
                  .ok());
  for (const float value : out) EXPECT_EQ(std::bit_cast<uint32_t>(value), 0u);
  ASSERT_TRUE(mseloss::loss({nullptr, DType::kFloat32, empty}, {nullptr, DType::kFloat32, empty},
                            Reduction::kMean, {out, rows})
                  .ok());
  for (const float value : out) EXPECT_TRUE(std::isnan(value));
  EXPECT_TRUE(mseloss::loss({nullptr, DType::kFloat32, empty}, {nullptr, DType::kFloat32, empty},
                            Reduction::kMean, {nullptr, DType::kFloat32, columns})
                  .ok());
}

}  // namespace
