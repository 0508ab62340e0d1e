// Masks as bytes in memory: any address, any byte but 0, any layout, any value behind them.
#include "tests/support/fenced_page.h"
#include "tests/support/weighted_calls.h"

namespace {

using namespace weighted;
using mseloss::PartialSum;

// A random mask, whose true bytes are any but 0.
void fill_mask(Random& random, Operand& mask) {
  for (int64_t i = 0, n = mask.count(); i < n; ++i)
    *mask.at(i) = static_cast<std::byte>(random.chance(50) ? random.range(1, 255) : 0);
}

// Replaces about half of the elements that the mask, of the same shape, leaves out.
void hide_special_values(Random& random, Operand& mask, Operand& x) {
  for (int64_t i = 0, n = x.count(); i < n; ++i)
    if (*mask.at(i) == std::byte{0} && random.chance(50))
      oracle::store(x.dtype(), x.at(i), random_value(random, x.dtype(), Values::kSpecial));
}

// loss() or loss_and_grad() of operands of these layouts, by the reference.
void check(Random& random, DType dtype, const Shape& shape, Layout x_layout, Operand& mask) {
  fill_mask(random, mask);
  Operand x(random, dtype, shape, x_layout), y(random, dtype, shape, Layout::kDense);
  x.fill(random, Values::kUnit);
  y.fill(random, Values::kUnit);
  if (mask.shape() == shape) hide_special_values(random, mask, x);
  const Reduction reduction = random.pick(kReductions);
  Operand loss(random, random.chance(50) ? dtype : random.pick(kDTypes),
               reduction == Reduction::kNone ? shape : Shape(), Layout::kDense, true);
  if (random.chance(40)) {
    ASSERT_TRUE(is_right(random, x, y, &mask, nullptr, reduction, loss, nullptr));
    return;
  }
  const bool full_g = reduction == Reduction::kNone && random.chance(50);
  Operand g(random, dtype, full_g ? shape : Shape(), Layout::kDense);
  g.fill(random, Values::kUnit);
  Operand grad(random, dtype, shape, Layout::kDense, true);
  ASSERT_TRUE(is_right(random, x, y, &mask, &g, reduction, loss, &grad));
}

TEST(Mask, EveryLengthAtEveryAddress_IsRightOnEveryTarget) {
  Random random(71);
  for_each_target([&] {
    for (DType dtype : kDTypes)
      for (int64_t n = 1; n <= 300; n += n < 140 ? 1 : 7)
        for (int repeat = 0; repeat < 2; ++repeat) {
          if (too_large(n * 20)) continue;
          Operand mask(random, DType::kBool, {n}, Layout::kDense, false,
                       static_cast<int>(random.range(0, 63)));
          ASSERT_NO_FATAL_FAILURE(check(random, dtype, {n}, Layout::kDense, mask)) << n;
        }
  });
}

TEST(Mask, RowsOfAnyLayout_AreRightOnEveryTarget) {
  Random random(72);
  for_each_target([&] {
    for (DType dtype : kDTypes)
      for (const Layout layout : kLayouts)
        for (const Shape& shape :
             {Shape{3, 1}, Shape{5, 17}, Shape{7, 64}, Shape{2, 3, 130}, Shape{40, 33}}) {
          if (too_large(oracle::count_of(shape) * 10)) continue;
          Operand mask(random, DType::kBool, shape, layout);
          const Layout x_layout = random.chance(60) ? Layout::kDense : random.pick(kLayouts);
          ASSERT_NO_FATAL_FAILURE(check(random, dtype, shape, x_layout, mask));
          // Broadcast: one byte a row, a row for all rows, one byte for all.
          Shape column = shape;
          column.back() = 1;
          for (const Shape& narrow : {column, Shape{shape.back()}, Shape{}}) {
            Operand broadcast(random, DType::kBool, narrow, layout);
            ASSERT_NO_FATAL_FAILURE(check(random, dtype, shape, x_layout, broadcast));
          }
        }
  });
}

TEST(Mask, EveryByteButZero_SelectsInEveryLane) {
  Random random(73);
  for_each_target([&] {
    for (DType dtype : kDTypes) {
      const Shape shape{256};
      Operand x(random, dtype, shape, Layout::kDense), y(random, dtype, shape, Layout::kDense);
      Operand mask(random, DType::kBool, shape, Layout::kDense),
          grad(random, dtype, shape, Layout::kDense, true);
      Operand g(random, dtype, {}, Layout::kDense), loss(random, dtype, {}, Layout::kDense, true);
      oracle::store(dtype, g.at(0), oracle::encode(dtype, 1));
      for (int64_t i = 0; i < 256; ++i) {
        oracle::store(dtype, x.at(i), oracle::encode(dtype, 3));
        oracle::store(dtype, y.at(i), oracle::encode(dtype, 1));
      }
      // Each lane sees every byte, between zeros.
      for (int64_t turn = 0; turn < 512; ++turn) {
        int64_t selected = 0;
        for (int64_t i = 0; i < 256; ++i) {
          const int64_t byte = (i + turn) % 2 == turn / 256 ? 0 : (i + turn) % 256;
          *mask.at(i) = static_cast<std::byte>(byte);
          selected += byte != 0;
        }
        ASSERT_TRUE(mseloss::loss_and_grad(x.view(), y.view(), mask.view(), Reduction::kSum, g.view(),
                                           loss.tensor(), grad.tensor())
                        .ok());
        ASSERT_EQ(oracle::decode(dtype, loss.bits(0)), static_cast<double>(4 * selected));
        for (int64_t i = 0; i < 256; ++i)
          ASSERT_EQ(oracle::decode(dtype, grad.bits(i)), *mask.at(i) == std::byte{0} ? 0 : 4)
              << turn << ' ' << i;
      }
    }
  });
}

TEST(Mask, BesideUnmappedPages_IsReadOnlyWhereItIs) {
  FencedPage fenced;
  Random random(74);
  struct View {
    Shape shape, strides;
  };
  for_each_target([&] {
    for (DType dtype : kDTypes)
      for (int64_t n = 1; n <= 130; ++n)
        // Rows, one row for all, transposed with long and with short columns.
        for (const View& view :
             {View{{3, n}, {n, 1}}, View{{3, n}, {0, 1}}, View{{n, 3}, {1, n}}, View{{n, 30}, {1, n}}})
          for (const bool at_end : {true, false}) {
            const int64_t bytes = view.strides[0] == 0 ? n : oracle::count_of(view.shape);
            auto* const mask = reinterpret_cast<std::byte*>(
                at_end ? fenced.ending_at_fence(static_cast<size_t>(bytes)) : fenced.starting_at_fence());
            uint64_t selected = 0;
            for (int64_t i = 0; i < bytes; ++i) {
              mask[i] = static_cast<std::byte>(random.range(0, 2));
              selected += mask[i] != std::byte{0};
            }
            if (view.strides[0] == 0) selected *= 3;
            Operand x(random, dtype, view.shape, Layout::kDense);
            Operand grad(random, dtype, view.shape, Layout::kDense, true);
            Operand one(random, dtype, {}, Layout::kDense);
            oracle::store(dtype, one.at(0), oracle::encode(dtype, 1));
            x.fill(random, Values::kUnit);
            const mseloss::ConstTensor weight{mask, DType::kBool, view.shape, view.strides};
            PartialSum sum, exact;
            ASSERT_TRUE(exact.add(x.view(), one.view(), weight, PartialSum::Mode::kExact).ok());
            ASSERT_EQ(exact.count(), selected) << n;
            ASSERT_TRUE(sum.add_with_grad(x.view(), one.view(), &weight, 2, one.view(), grad.tensor()).ok());
            ASSERT_EQ(sum.count(), selected) << n;
            ASSERT_TRUE(mseloss::loss(x.view(), one.view(), weight, Reduction::kNone, grad.tensor()).ok());
          }
  });
}

// A gradient may have the memory of an operand, also in a dense call, where the sum is computed first.
TEST(Mask, GradientInPlace_HasTheSameBits) {
  for_each_case(3000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes);
    const Shape shape{random.range(1, 3), random.range(1, 400)};
    const Shape mask_shape = random.chance(70) ? shape : narrowed_to(random, shape);
    Operand x(random, dtype, shape, Layout::kDense), y(random, dtype, shape, Layout::kDense);
    Operand mask(random, DType::kBool, mask_shape, random.pick({Layout::kDense, Layout::kAny}));
    x.fill(random, random.pick(kValues));
    y.fill(random, random.pick(kValues));
    fill_mask(random, mask);
    Operand g(random, dtype, {}, Layout::kDense);
    g.fill(random, Values::kUnit);
    const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
    Operand loss(random, dtype, {}, Layout::kDense, true), same_loss(random, dtype, {}, Layout::kDense, true);
    Operand grad(random, dtype, shape, Layout::kDense, true);
    const auto call = [&](Operand& to_loss, Operand& to) {
      return mseloss::loss_and_grad(x.view(), y.view(), mask.view(), reduction, g.view(), to_loss.tensor(),
                                    to.tensor(), random_options(random));
    };
    ASSERT_TRUE(call(loss, grad).ok());
    Operand& overwritten = random.chance(50) ? x : y;
    ASSERT_TRUE(call(same_loss, overwritten).ok());
    ASSERT_TRUE(oracle::same(dtype, loss.bits(0), same_loss.bits(0)));
    for (int64_t i = 0; i < grad.count(); ++i)
      ASSERT_TRUE(oracle::same(dtype, grad.bits(i), overwritten.bits(i))) << i;
  });
}

// Parts of a mask begin at any address; their divisors and sums merge to those of the whole.
TEST(Mask, PartialSumsOfPieces_FinishAsTheWhole) {
  for_each_case(2000, [&](Random& random) {
    const DType dtype = random.pick(kDTypes), to = random.pick(kDTypes);
    const int64_t n = random.range(1, 500);
    Operand x(random, dtype, {n}, Layout::kDense), y(random, dtype, {n}, Layout::kDense);
    Operand mask(random, DType::kBool, {n},
                 random.pick({Layout::kDense, Layout::kSliced, Layout::kNegative}));
    x.fill(random, random.pick(kValues));
    y.fill(random, Values::kUnit);
    fill_mask(random, mask);
    Operand whole(random, to, {}, Layout::kDense, true), parts(random, to, {}, Layout::kDense, true);
    const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
    ASSERT_TRUE(mseloss::loss(x.view(), y.view(), mask.view(), reduction, whole.tensor()).ok());
    PartialSum sum, divisor;
    uint64_t selected = 0;
    for (int64_t i = 0; i < n; ++i) selected += *mask.at(i) != std::byte{0};
    for (int64_t first = 0; first < n;) {
      const Shape shape{random.range(1, n - first)};
      const auto piece = [&](Operand& all) {
        return mseloss::ConstTensor(all.at(first), all.dtype(), shape, all.view().strides);
      };
      const auto mode = PartialSum::Mode::kExact;
      const mseloss::ConstTensor weight = piece(mask);
      ASSERT_TRUE(sum.add(piece(x), piece(y), weight, mode).ok());
      ASSERT_TRUE(divisor.add_divisor(piece(x), piece(y), &weight, mode).ok());
      first += shape[0];
    }
    ASSERT_EQ(sum.count(), selected);
    ASSERT_EQ(divisor.count(), selected);
    ASSERT_TRUE(sum.finish(reduction, to, parts.at(0)));
    ASSERT_TRUE(oracle::same(to, whole.bits(0), parts.bits(0)));
  });
}

}  // namespace
