// Bitwise comparison of the gradient with the oracle: every dtype x reduction x layout x instruction-set
// target, and sizes around every boundary that a kernel may have.
#include "tests/support/cases.h"
#include "tests/support/fenced_page.h"

namespace {

using namespace cases;

class Gradient : public testing::TestWithParam<std::tuple<DType, Reduction>> {
 protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  Reduction reduction() const { return std::get<1>(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Cpu, Gradient,
                         testing::Combine(testing::ValuesIn(kDTypes), testing::ValuesIn(kReductions)),
                         [](const auto& instance) {
                           return std::string(mseloss::name_of(std::get<0>(instance.param))) + "_" +
                                  mseloss::name_of(std::get<1>(instance.param));
                         });

TEST_P(Gradient, AnyLayoutOfAnyOperand_EqualsTheOracleOnEveryTarget) {
  Random random(1);
  const Shape shapes[] = {{}, {1}, {37}, {5, 67}, {67, 5}, {70, 70}, {3, 1, 40, 2}, {2, 3, 2, 3, 2, 3, 2, 3}};
  for_each_target([&] {
    for (const Shape& shape : shapes)
      for (Layout input : kLayouts)
        for (Layout target : kLayouts) {
          const Layout grad_output = random.pick(kLayouts), grad_input = random.pick(kLayouts);
          Operand g(random, dtype(), random.chance(30) ? Shape{} : shape, grad_output);
          Operand x(random, dtype(), shape, input), y(random, dtype(), shape, target);
          Operand out(random, dtype(), shape, grad_input, true);
          for (Operand* operand : {&g, &x, &y}) operand->fill(random, random.pick(kValues));
          ASSERT_TRUE(grad_is_right(g, x, y, reduction(), out, random_options(random)));
        }
  });
}

TEST_P(Gradient, OperandsThatBroadcastThreeWays_EqualTheOracleOnEveryTarget) {
  Random random(2);
  const Shape shapes[][3] = {
      {{1}, {40}, {40}},         {{1, 1}, {3, 50}, {1, 50}},     {{}, {50, 1}, {1, 50}},
      {{7, 1, 1}, {5, 1}, {33}}, {{1, 33}, {65, 1}, {65, 33}},   {{64, 64}, {64, 1}, {}},
      {{2, 1, 4}, {1}, {3, 1}},  {{128}, {1, 128}, {1, 1, 128}}, {{}, {}, {200}}};
  for_each_target([&] {
    for (const auto& shape : shapes)
      for (Layout layout : kLayouts) {
        Operand g(random, dtype(), shape[0], layout), x(random, dtype(), shape[1], layout);
        Operand y(random, dtype(), shape[2], layout);
        Operand out(random, dtype(), oracle::broadcast({shape[0], shape[1], shape[2]}), layout, true);
        for (Operand* operand : {&g, &x, &y}) operand->fill(random, random.pick(kValues));
        ASSERT_TRUE(grad_is_right(g, x, y, reduction(), out, random_options(random)));
      }
  });
}

TEST_P(Gradient, SizesAroundVectorsAndBlocks_EqualTheOracleOnEveryTarget) {
  Random random(3);
  std::vector<int64_t> sizes;
  for (int64_t n = 0; n <= 130; ++n) sizes.push_back(n);
  for (int64_t n = 256; n <= 16384; n *= 2) sizes.insert(sizes.end(), {n - 1, n, n + 1});
  for_each_target([&] {
    for (int64_t n : sizes) {
      if (too_large(n)) continue;
      const int misaligned = random.chance(50) ? static_cast<int>(random.range(0, 63)) : 0;
      Operand g(random, dtype(), random.chance(50) ? Shape{} : Shape{n}, Layout::kDense, false, misaligned);
      Operand x(random, dtype(), {n}, Layout::kDense, false, misaligned);
      Operand y(random, dtype(), random.chance(20) ? Shape{1} : Shape{n}, Layout::kDense);
      Operand out(random, dtype(), {n}, Layout::kDense, true, misaligned);
      for (Operand* operand : {&g, &x, &y}) operand->fill(random, random.pick(kValues));
      ASSERT_TRUE(grad_is_right(g, x, y, reduction(), out, random_options(random))) << n;
    }
  });
}

TEST_P(Gradient, SizesAroundThreadsAndStreaming_EqualTheOracle) {
  Random random(4);
  const int64_t sizes[] = {32767, 32769, 65535, 65536, 131073, 262144, 1000003};
  for (int64_t n : sizes) {
    if (too_large(n / 30) || (n > 300000 && reduction() != Reduction::kMean)) continue;
    Operand g(random, dtype(), random.chance(50) ? Shape{} : Shape{n}, Layout::kDense);
    Operand x(random, dtype(), {n}, Layout::kDense), y(random, dtype(), {n}, Layout::kDense);
    Operand out(random, dtype(), {n}, Layout::kDense, true);
    for (Operand* operand : {&g, &x, &y}) operand->fill(random, Values::kUnit);
    ASSERT_TRUE(grad_is_right(g, x, y, reduction(), out, random_options(random))) << n;
  }
}

TEST_P(Gradient, LargeMatrixWithATransposedOperand_EqualsTheOracle) {
  Random random(5);
  for (const Shape& shape : {Shape{301, 517}, Shape{320, 512}})  // rows of whole cache lines, or not
    for (int transposed = 0; transposed < 4; ++transposed)
      for (const auto store : {Options::Store::kCached, Options::Store::kNonTemporal}) {
        const auto layout = [&](int i) { return i == transposed ? Layout::kTransposed : Layout::kDense; };
        Operand g(random, dtype(), shape, layout(0)), x(random, dtype(), shape, layout(1));
        Operand y(random, dtype(), shape, layout(2));
        Operand out(random, dtype(), shape, layout(3), true, kCacheLineAligned);
        for (Operand* operand : {&g, &x, &y}) operand->fill(random, Values::kUnit);
        Options options = random_options(random);
        options.store = store;
        ASSERT_TRUE(grad_is_right(g, x, y, reduction(), out, options)) << transposed;
      }
}

// Short and long dimensions in every order: every kind of packing and unpacking, including tiles with more
// segments than a segment list holds.
TEST_P(Gradient, ShortDimensionsBesideLongOnes_EqualTheOracleOnEveryTarget) {
  constexpr int64_t kExtents[] = {2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 33, 70, 300};
  for_each_target([&] {
    for_each_case(60, [&](Random& random) {
      Shape shape;
      for (int64_t left = 12000; left >= 2 && shape.size() < 5;) {
        shape.push_back(std::min(left, random.pick(kExtents)));
        left /= shape.back();
      }
      const auto input = [&] {
        return Operand(random, dtype(), narrowed(random, shape), random.pick(kLayouts));
      };
      Operand g = input(), x = input(), y(random, dtype(), shape, random.pick(kLayouts));
      Operand out(random, dtype(), shape, random.pick(kLayouts), true);
      for (Operand* operand : {&g, &x, &y}) operand->fill(random, random.pick(kValues));
      ASSERT_TRUE(grad_is_right(g, x, y, reduction(), out, random_options(random)));
    });
  });
}

// A column has one element per row, which is replicated n times; the rows are adjacent or have gaps.
TEST_P(Gradient, ColumnsBesideRowsOfEveryShortLength_EqualTheOracleOnEveryTarget) {
  Random random(9);
  for_each_target([&] {
    for (int64_t n = 2; n <= 70; ++n) {
      const Shape shape{41, n}, column{41, 1};
      const int64_t replicated = random.range(0, 2);
      const auto input = [&](int64_t i) {
        const Layout layout = random.pick({Layout::kDense, Layout::kSliced, Layout::kNegative});
        return Operand(random, dtype(), i == replicated ? column : shape, layout);
      };
      Operand g = input(0), x = input(1), y = input(2);
      Operand out(random, dtype(), shape, random.chance(50) ? Layout::kDense : Layout::kSliced, true);
      for (Operand* operand : {&g, &x, &y}) operand->fill(random, random.pick(kValues));
      ASSERT_TRUE(grad_is_right(g, x, y, reduction(), out, random_options(random))) << n;
    }
  });
}

TEST_P(Gradient, EveryTripleOfSpecialValues_EqualsTheOracleOnEveryTarget) {
  const auto specials = special_values(dtype());
  const auto n = static_cast<int64_t>(specials.size());
  Random random(6);
  Operand g(random, dtype(), {n, 1, 1}, Layout::kDense), x(random, dtype(), {n, 1}, Layout::kDense);
  Operand y(random, dtype(), {n}, Layout::kDense), out(random, dtype(), {n, n, n}, Layout::kDense, true);
  for (Operand* operand : {&g, &x, &y})
    for (int64_t i = 0; i < n; ++i) oracle::store(dtype(), operand->at(i), specials[static_cast<size_t>(i)]);
  for_each_target([&] { ASSERT_TRUE(grad_is_right(g, x, y, reduction(), out)); });
}

TEST_P(Gradient, OutputOfAnotherDType_IsRoundedToTheInputsFirst) {
  Random random(7);
  for_each_target([&] {
    for (DType to : kDTypes)
      for (Values values : kValues)
        for (Layout layout : {Layout::kDense, Layout::kTransposed, Layout::kAny}) {
          Operand g(random, dtype(), {}, layout), x(random, dtype(), {19, 23}, layout);
          Operand y(random, dtype(), {19, 23}, layout), out(random, to, {19, 23}, layout, true);
          for (Operand* operand : {&g, &x, &y}) operand->fill(random, values);
          ASSERT_TRUE(grad_is_right(g, x, y, reduction(), out, random_options(random)));
        }
  });
}

TEST_P(Gradient, InPlaceOnEachInput_EqualsTheOracleOnEveryTarget) {
  Random random(8);
  for_each_target([&] {
    for (const Shape& shape :
         {Shape{}, Shape{1}, Shape{129}, Shape{33, 40}, Shape{9, 300}, Shape{4, 3, 2, 9}, Shape{70001}})
      for (Layout layout : {Layout::kDense, Layout::kTransposed, Layout::kSliced, Layout::kNegative})
        for (int which = 0; which < 3; ++which) {
          if (oracle::count_of(shape) > 5000 && layout != Layout::kDense) continue;
          Operand g(random, dtype(), shape, layout, true), x(random, dtype(), shape, layout, true);
          Operand y(random, dtype(), shape, layout, true);
          Operand* operands[] = {&g, &x, &y};
          for (Operand* operand : operands) operand->fill(random, random.pick(kValues));
          Options options = random_options(random);
          if (shape == Shape{9, 300})
            options.store = Options::Store::kNonTemporal;  // rows that do not end on cache lines
          ASSERT_TRUE(grad_is_right(g, x, y, reduction(), *operands[which], options)) << which;
        }
  });
}

TEST_P(Gradient, OperandsBesideUnmappedPages_AreReadAndWrittenOnlyWhereTheyAre) {
  FencedPage pages[4];
  const auto size = static_cast<size_t>(oracle::bytes_of(dtype()));
  for_each_target([&] {
    for (int64_t n = 0; n <= 130; ++n)
      for (const bool at_end : {true, false}) {
        const Shape shape{n}, matrix{n, 3};
        const auto place = [&](int i, int64_t elements) {
          return at_end ? pages[i].ending_at_fence(static_cast<size_t>(elements) * size)
                        : pages[i].starting_at_fence();
        };
        mseloss::Options options;
        options.store = static_cast<Options::Store>(n % 3);
        ASSERT_TRUE(mseloss::grad({place(0, n), dtype(), shape}, {place(1, n), dtype(), shape},
                                  {place(2, n), dtype(), shape}, reduction(), {place(3, n), dtype(), shape},
                                  options)
                        .ok());
        // Columns: one element per row.
        const Shape rows{19, n}, column_strides{1, 0};
        if (n != 0 && 19 * n * static_cast<int64_t>(size) <= 4096) {
          ASSERT_TRUE(mseloss::grad({place(0, 19), dtype(), rows, column_strides},
                                    {place(1, 19 * n), dtype(), rows},
                                    {place(2, 19), dtype(), rows, column_strides}, reduction(),
                                    {place(3, 19 * n), dtype(), rows}, options)
                          .ok());
        }
        // Rows and columns with a constant spacing between elements, next to dense operands.
        const int64_t spacing = 2 + n % 7;
        for (const auto& layout : {std::pair{Shape{n}, Shape{1}}, std::pair{Shape{9, n}, Shape{1, 9}}}) {
          const Shape& extents = layout.first;
          const int64_t count = oracle::count_of(extents), reach = (count - 1) * spacing + 1;
          if (n == 0 || reach * static_cast<int64_t>(size) > 4096) continue;
          Shape strides = layout.second;
          for (int64_t& stride : strides) stride *= spacing;
          const auto strided = [&](int i) { return Tensor{place(i, reach), dtype(), extents, strides}; };
          const auto dense = [&](int i) { return Tensor{place(i, count), dtype(), extents}; };
          ASSERT_TRUE(mseloss::grad(strided(0), strided(1), strided(2), reduction(), dense(3), options).ok());
          ASSERT_TRUE(mseloss::grad(dense(0), strided(1), dense(2), reduction(), dense(3), options).ok());
          ASSERT_TRUE(mseloss::grad(dense(0), dense(1), dense(2), reduction(), strided(3), options).ok());
        }
        // Transposed: columns are contiguous.
        const Shape columns{1, n};
        if (3 * n * static_cast<int64_t>(size) > 4096 || n == 0) continue;
        ASSERT_TRUE(mseloss::grad({place(0, 3 * n), dtype(), matrix, columns},
                                  {place(1, 3 * n), dtype(), matrix, columns},
                                  {place(2, 3 * n), dtype(), matrix}, reduction(),
                                  {place(3, 3 * n), dtype(), matrix}, options)
                        .ok());
      }
  });
}

}  // namespace
