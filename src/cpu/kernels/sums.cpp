// Sums of squares: fast with an error bound, alone or beside the gradient, and exact. docs/numerics.md has
// the proofs. One object per dtype, like elementwise.cpp.
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/sums.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "cpu/kernels/lanes-inl.h"
#include "cpu/kernels/row_loop-inl.h"
#include "numerics/fixed_point.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

using Wide = hn::ScalableTag<double>;
using WideV = hn::Vec<Wide>;

// Returns the rounding error of *sum = round(a + b), exactly.
HWY_INLINE WideV two_sum(WideV a, WideV b, WideV* sum) {
  const auto s = hn::Add(a, b), bb = hn::Sub(s, a);
  *sum = s;
  return hn::Add(hn::Sub(a, hn::Sub(s, bb)), hn::Sub(b, bb));
}

// Returns d * d - square exactly, where square = round(d * d), if nothing underflows and |d| < 2^996.
HWY_INLINE WideV square_error(WideV d, WideV square) {
#if MSELOSS_NATIVE_FMA
  return hn::MulSub(d, d, square);
#else
  // Veltkamp's splitting, Dekker's product.
  const auto scaled = hn::Mul(d, hn::Set(Wide(), 134217729.0));  // 2^27 + 1
  const auto high = hn::Sub(scaled, hn::Sub(scaled, d)), low = hn::Sub(d, high);
  const auto cross = hn::Mul(high, low);
  return hn::Add(hn::Add(hn::Add(hn::Sub(hn::Mul(high, high), square), cross), cross), hn::Mul(low, low));
#endif
}

HWY_INLINE WideV widen(hn::Vec<hn::Rebind<float, Wide>> v) { return hn::PromoteTo(Wide(), v); }
HWY_INLINE WideV widen(WideV v) { return v; }

HWY_INLINE double sum_of_lanes(WideV v) { return hn::GetLane(hn::SumOfLanes(Wide(), v)); }

template <class T>
class Squares;

// Squares of float32 are exact in float64: plain sums, in enough accumulators to hide the latency of an
// addition.
template <>
class Squares<float> {
 public:
  using D = hn::ScalableTag<float>;
  static constexpr int kAccumulators = kSumUnroll;  // each for one float32 vector, two of float64

  HWY_INLINE Squares() {
    unrolled<2 * kAccumulators>([&](auto k) MSELOSS_INLINE { sum_[k] = hn::Zero(Wide()); });
  }

  template <int k>
  HWY_INLINE void add(Index<k>, hn::Vec<D> difference) {
#if HWY_TARGET == HWY_SCALAR
    add_wide<2 * k>(hn::PromoteTo(Wide(), difference));
#else
    const hn::Half<D> half;
    add_wide<2 * k>(hn::PromoteTo(Wide(), hn::LowerHalf(half, difference)));
    add_wide<2 * k + 1>(hn::PromoteTo(Wide(), hn::UpperHalf(half, difference)));
#endif
  }
  HWY_INLINE void finish(size_t n, size_t rows, RowSum* row) {
    WideV pair[kAccumulators];
    unrolled<kAccumulators>([&](auto k) MSELOSS_INLINE { pair[k] = hn::Add(sum_[2 * k], sum_[2 * k + 1]); });
    row->high = sum_of_lanes(hn::Add(hn::Add(pair[0], pair[1]), hn::Add(pair[2], pair[3])));
    row->low = 0;
    // The largest number of additions that affect one term. Per row: one per unrolled iteration, up to
    // kAccumulators - 1 single vectors, head and tail. Then 3 in the tree of accumulators and one per lane.
    const size_t in_row = n / (kAccumulators * hn::Lanes(D())) + kAccumulators - 1 + 2;
    const size_t additions = rows * in_row + 3 + hn::Lanes(Wide());
    row->error = kUnit * static_cast<double>(additions) * row->high * kSlack;
    row->squares_fit = true;
  }

 private:
  template <int k>
  HWY_INLINE void add_wide(WideV d) {
    sum_[k] = hn::MulAdd(d, d, sum_[k]);  // the product is exact, so fused or not is the same
  }

  WideV sum_[2 * kAccumulators];
};

// Squares of float64 are two doubles each, summed in double-double.
template <>
class Squares<double> {
 public:
  using D = Wide;
  static constexpr int kAccumulators = kSumUnroll;

  HWY_INLINE Squares() {
    unrolled<kAccumulators>([&](auto k) MSELOSS_INLINE { high_[k] = low_[k] = hn::Zero(Wide()); });
  }

  template <int k>
  HWY_INLINE void add(Index<k>, WideV d) {
    const auto square = hn::Mul(d, d);
    const auto residual = two_sum(high_[k], square, &high_[k]);
    low_[k] = hn::Add(low_[k], hn::Add(residual, square_error(d, square)));
  }
  HWY_INLINE void finish(size_t n, size_t rows, RowSum* row) {
    unrolled<kAccumulators - 1>([&](auto k) MSELOSS_INLINE {
      const auto residual = two_sum(high_[0], high_[k + 1], &high_[0]);
      low_[0] = hn::Add(low_[0], hn::Add(low_[k + 1], residual));
    });
    HWY_ALIGN double high[hn::MaxLanes(Wide())], low[hn::MaxLanes(Wide())];
    hn::Store(high_[0], Wide(), high);
    hn::Store(low_[0], Wide(), low);
    const size_t lanes = hn::Lanes(Wide());
    double sum = 0, rest = 0;
    for (size_t i = 0; i < lanes; ++i) rest += mseloss::two_sum(sum, high[i], &sum) + low[i];
    row->high = sum;
    row->low = rest;
    const size_t in_row = n / (kAccumulators * lanes) + kAccumulators - 1 + 2;
    const auto additions = static_cast<double>(rows * in_row + kAccumulators + lanes);
    // Rounding of the low parts, quadratic in the unit roundoff, and what squares lose to underflow.
    row->error =
        (4 * additions * additions * kUnit * kUnit * sum + static_cast<double>(n * rows) * 0x1p-1072) *
        kSlack;
    row->squares_fit = false;
  }

 private:
  WideV high_[kAccumulators], low_[kAccumulators];
};

template <class S>
void sum(const RowBlock& block, RowSum* out) {
  BroadcastVector<S> x_copies, y_copies;
  Squares<typename S::Compute> squares;
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    transform_row<S, Store::kNone, Loop::kSum>(hn::ScalableTag<typename S::Compute>(), nullptr, block.n,
                                               [&, x, y](auto k, auto load) MSELOSS_INLINE {
                                                 const auto difference = hn::Sub(load(x), load(y));
                                                 squares.add(k, difference);
                                                 return difference;
                                               });
  }
  squares.finish(block.n, block.rows, out);
}

template <class S, Store kStore>
void grad_and_sum(const RowBlock& block, RowSum* out) {
  using T = typename S::Compute;
  const hn::ScalableTag<T> d;
  const auto scale = hn::Set(d, static_cast<T>(block.scale));
  BroadcastVector<S> g_copies, x_copies, y_copies;
  const auto g = RowInput<S>(block.at[kGradOutput], false, &g_copies).load(d, 0);
  Squares<T> squares;
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    void* to = output_row<S>(block, r);
    transform_row<S, kStore, Loop::kSum>(d, to, block.n, [&, x, y](auto k, auto load) MSELOSS_INLINE {
      const auto difference = hn::Sub(load(x), load(y));
      squares.add(k, difference);
      return hn::Mul(hn::Mul(difference, scale), g);
    });
  }
  squares.finish(block.n, block.rows, out);
}

constexpr size_t kExactBlock = 512;

// Adds the values exactly. Each pass splits every value at a common bit, at least 41 below the largest value.
// The upper parts are multiples of that bit and their sum is below 2^53 times it, so any order adds them
// exactly.
static void add_block(double* values, size_t count, FixedPoint limbs) {
  const Wide d;
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Zero(d);
  for (size_t i = 0; i < count; i += lanes) largest = hn::Max(largest, hn::Abs(hn::Load(d, values + i)));
  double top = hn::GetLane(hn::MaxOfLanes(d, largest));
  while (top != 0) {
    int exponent;
    std::frexp(top, &exponent);
    const auto cut = hn::Set(d, std::ldexp(1.5, exponent + 10));  // 512 terms below 2^exponent
    auto upper_sum = hn::Zero(d);
    largest = hn::Zero(d);
    for (size_t i = 0; i < count; i += lanes) {
      const auto value = hn::Load(d, values + i);
      const auto upper = hn::Sub(hn::Add(value, cut), cut), rest = hn::Sub(value, upper);
      upper_sum = hn::Add(upper_sum, upper);
      largest = hn::Max(largest, hn::Abs(rest));
      hn::Store(rest, d, values + i);
    }
    limbs.add(sum_of_lanes(upper_sum));
    top = hn::GetLane(hn::MaxOfLanes(d, largest));
  }
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
      if constexpr (std::is_same_v<T, double>) hn::Store(square_error(v, square), wide, errors + i);
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
        limbs.add_square(differences[i]);
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
    kernels->sum[i] = &sum<S>;
    kernels->grad_and_sum[i][0] = &grad_and_sum<S, Store::kCached>;
    kernels->grad_and_sum[i][1] = &grad_and_sum<S, Store::kNonTemporal>;
    kernels->exact_sum[i] = &exact_sum<S>;
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mseloss::cpu {
HWY_EXPORT(fill_sums);
template <>
void fill_sum_kernels<DType::MSELOSS_KERNEL_DTYPE>(Kernels* kernels, size_t target, bool native_bfloat16) {
  HWY_DISPATCH_TABLE(fill_sums)[target](kernels, native_bfloat16);
}
}  // namespace mseloss::cpu
#endif
