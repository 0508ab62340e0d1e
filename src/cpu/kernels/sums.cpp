// Sums of squares: fast with an error bound, alone or beside the gradient, and exact. docs/numerics.md has
// the proofs. One object per dtype, like elementwise.cpp.
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/sums.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "cpu/kernels/exact_block-inl.h"
#include "cpu/kernels/lanes-inl.h"
#include "cpu/kernels/row_loop-inl.h"
#include "cpu/kernels/squares-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// The sum of short rows, of at least a vector each. The last vector of a row overlaps the one before it: both
// ends of a row in transform_row() take as long as several vectors.
template <class S>
void sum_short_rows(const RowBlock& block, RowSum* out) {
  using T = typename S::Compute;
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d), n = block.n, unrolled_lanes = kSumUnroll * lanes;
  const auto repeated = hn::FirstN(d, lanes - n % lanes);  // lanes of the last vector, if it is not full
  BroadcastVector<S> x_copies, y_copies;
  Squares<T> squares;
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    const auto difference = [&](size_t i) MSELOSS_INLINE { return hn::Sub(x.load(d, i), y.load(d, i)); };
    size_t i = 0;
    for (; i + unrolled_lanes <= n; i += unrolled_lanes) {
      unrolled<kSumUnroll>([&](auto k) MSELOSS_INLINE { squares.add(k, difference(i + k * lanes)); });
    }
    for (; i + lanes <= n; i += lanes) squares.add(Index<0>(), difference(i));
    if (i < n) squares.add(Index<1>(), hn::IfThenZeroElse(repeated, difference(n - lanes)));
  }
  squares.finish(n, block.rows, kSumSingles<S, Store::kNone>, out);
}

// The sum and, if it is stored, the gradient with one grad_output for all elements.
template <class S, Store kStore>
void sum(const RowBlock& block, RowSum* out) {
  using T = typename S::Compute;
  constexpr size_t kMaxShortRow = 192;  // elements
  if (kStore == Store::kNone && block.rows > 1 && block.n <= kMaxShortRow &&
      block.n >= hn::Lanes(hn::ScalableTag<T>())) {
    return sum_short_rows<S>(block, out);
  }
  const hn::ScalableTag<T> d;
  BroadcastVector<S> x_copies, y_copies;
  auto scale = hn::Zero(d), g = scale;
  if constexpr (kStore != Store::kNone) {
    BroadcastVector<S> g_copies;
    scale = hn::Set(d, static_cast<T>(block.scale));
    g = RowInput<S>(block.at[kGradOutput], false, &g_copies).load(d, 0);
  }
  Squares<T> squares;
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    void* to = kStore == Store::kNone ? nullptr : output_row<S>(block, r);
    transform_row<S, kStore, Loop::kSum>(d, to, block.n, [&, x, y](auto k, auto load) MSELOSS_INLINE {
      const auto difference = hn::Sub(load(x), load(y));
      squares.add(k, difference);
      if constexpr (kStore == Store::kNone) return difference;
      return hn::Mul(hn::Mul(difference, scale), g);
    });
  }
  squares.finish(block.n, block.rows, kSumSingles<S, kStore>, out);
}

template <class S>
void exact_sum(const RowBlock& block, uint64_t* limb_array, double* special) {
  using T = typename S::Compute;
  const hn::Rebind<T, Wide> d;
  const Wide wide;
  const size_t lanes = hn::Lanes(wide);
  BroadcastVector<S> x_copies, y_copies;
  FixedPoint limbs(limb_array);
  HWY_ALIGN double differences[kExactBlock], squares[kExactBlock], errors[kExactBlock];
  const size_t parts = (block.n + kExactBlock - 1) / kExactBlock;
  for (size_t part = 0; part < block.rows * parts; ++part) {
    const size_t r = part / parts, first = part % parts * kExactBlock;
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    const size_t n = HWY_MIN(kExactBlock, block.n - first);
    auto largest = hn::Zero(wide), smallest = hn::Set(wide, 1.0), total = hn::Zero(wide);
    for (size_t i = 0; i < n; i += lanes) {
      const size_t count = HWY_MIN(lanes, n - i);
      const auto difference = HWY_LIKELY(count == lanes) ? hn::Sub(x.load(d, first + i), y.load(d, first + i))
                                                         : hn::Sub(x.load_tail(d, first + i, count),
                                                                   y.load_tail(d, first + i, count));
      const auto v = widen(difference);
      const auto square = hn::Mul(v, v), magnitude = hn::Abs(v);
      hn::Store(v, wide, differences + i);
      hn::Store(square, wide, squares + i);
      total = hn::Add(total, square);
      largest = hn::Max(largest, magnitude);
      smallest = hn::Min(smallest, hn::IfThenElse(hn::Eq(v, hn::Zero(wide)), smallest, magnitude));
      if constexpr (std::is_same_v<T, double>) hn::Store(product_error(v, v, square), wide, errors + i);
    }
    // Squares, and for float64 their rounding errors, are exact while exponents stay away from both ends of
    // the range.
    bool plain = std::isfinite(sum_of_lanes(total));
    if constexpr (std::is_same_v<T, double>) {
      plain = plain && hn::GetLane(hn::MaxOfLanes(wide, largest)) < 0x1p480 &&
              hn::GetLane(hn::MinOfLanes(wide, smallest)) > 0x1p-440;
    }
    if (plain) {
      const size_t padded = (n + lanes - 1) / lanes * lanes;
      add_block(squares, padded, limbs);
      if constexpr (std::is_same_v<T, double>) add_block(errors, padded, limbs);
      continue;
    }
    for (size_t i = 0; i < n; ++i) {
      if (std::isfinite(differences[i])) {
        limbs.add_product(1, differences[i]);
      } else {
        *special += differences[i] * differences[i];
      }
    }
  }
}

static void fill_sums(Kernels* kernels, bool native_bfloat16) {
  constexpr DType kDType = DType::MSELOSS_KERNEL_DTYPE;
  with_storage<kDType>(native_bfloat16, [&](auto storage) {
    using S = decltype(storage);
    constexpr int i = static_cast<int>(kDType);
    kernels->sum[i] = &sum<S, Store::kNone>;
    kernels->grad_and_sum[i][0] = &sum<S, Store::kCached>;
    kernels->grad_and_sum[i][1] = &sum<S, Store::kNonTemporal>;
    kernels->exact_sum[i] = &exact_sum<S>;
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
MSELOSS_EXPORT_DTYPE_KERNELS(fill_sums)
#endif
