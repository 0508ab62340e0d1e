// Sums of squares: fast with a bound, alone or beside the gradient, and exact. docs/numerics.md has the
// proofs.
#include "cpu/targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/sums.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "cpu/lanes-inl.h"
#include "cpu/rows-inl.h"
#include "numerics/fixed_point.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

using Wide = hn::ScalableTag<double>;
using WideV = hn::Vec<Wide>;

// a + b = *sum + rest exactly.
HWY_INLINE WideV two_sum(WideV a, WideV b, WideV* sum) {
  const auto s = hn::Add(a, b), bb = hn::Sub(s, a);
  *sum = s;
  return hn::Add(hn::Sub(a, hn::Sub(s, bb)), hn::Sub(b, bb));
}

// d * d - square exactly, where square = round(d * d), while nothing underflows and |d| < 2^996.
HWY_INLINE WideV square_rest(WideV d, WideV square) {
#if MSELOSS_NATIVE_FMA
  return hn::MulSub(d, d, square);
#else
  const auto spread = hn::Mul(d, hn::Set(Wide(), 134217729.0));  // 2^27 + 1
  const auto high = hn::Sub(spread, hn::Sub(spread, d)), low = hn::Sub(d, high);
  const auto cross = hn::Mul(high, low);
  return hn::Add(hn::Add(hn::Add(hn::Sub(hn::Mul(high, high), square), cross), cross), hn::Mul(low, low));
#endif
}

HWY_INLINE WideV widen(hn::Vec<hn::Rebind<float, Wide>> v) { return hn::PromoteTo(Wide(), v); }
HWY_INLINE WideV widen(WideV v) { return v; }

HWY_INLINE double sum_of_lanes(WideV v) { return hn::GetLane(hn::SumOfLanes(Wide(), v)); }

template <class T>
class Squares;

// Squares of float32 are exact in float64: plain sums, in accumulators enough to hide the latency of the
// addition.
template <>
class Squares<float> {
 public:
  using D = hn::ScalableTag<float>;
  static constexpr int kAccumulators = kVectors;  // each of a whole float32 vector, two of float64

  HWY_INLINE Squares() {
    unrolled<2 * kAccumulators>([&](auto k) MSELOSS_INLINE { sum_[k] = hn::Zero(Wide()); });
  }

  template <int k>
  HWY_INLINE void add(Part<k>, hn::Vec<D> difference) {
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
    // Additions a term passes: in a row one a round, the packs short of a round, two ends; then the
    // accumulators' tree of 3 and the lanes.
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

// Squares of float64 as two doubles each, summed in double-double.
template <>
class Squares<double> {
 public:
  using D = Wide;
  static constexpr int kAccumulators = kVectors;

  HWY_INLINE Squares() {
    unrolled<kAccumulators>([&](auto k) MSELOSS_INLINE { high_[k] = low_[k] = hn::Zero(Wide()); });
  }

  template <int k>
  HWY_INLINE void add(Part<k>, WideV d) {
    const auto square = hn::Mul(d, d);
    const auto rest = two_sum(high_[k], square, &high_[k]);
    low_[k] = hn::Add(low_[k], hn::Add(rest, square_rest(d, square)));
  }
  HWY_INLINE void finish(size_t n, size_t rows, RowSum* row) {
    unrolled<kAccumulators - 1>([&](auto k) MSELOSS_INLINE {
      const auto rest = two_sum(high_[0], high_[k + 1], &high_[0]);
      low_[0] = hn::Add(low_[0], hn::Add(low_[k + 1], rest));
    });
    HWY_ALIGN double high[hn::MaxLanes(Wide())], low[hn::MaxLanes(Wide())];
    hn::Store(high_[0], Wide(), high);
    hn::Store(low_[0], Wide(), low);
    const size_t lanes = hn::Lanes(Wide());
    double sum = 0, rest = 0;
    for (size_t i = 0; i < lanes; ++i) {
      const double s = sum + high[i], bb = s - sum;
      rest += ((sum - (s - bb)) + (high[i] - bb)) + low[i];
      sum = s;
    }
    row->high = sum;
    row->low = rest;
    const size_t in_row = n / (kAccumulators * lanes) + kAccumulators - 1 + 2;
    const auto additions = static_cast<double>(rows * in_row + kAccumulators + lanes);
    // The low parts' own roundings, quadratic in the unit, and what squares lose below the smallest
    // subnormal.
    row->error =
        (4 * additions * additions * kUnit * kUnit * sum + static_cast<double>(n * rows) * 0x1p-1072) *
        kSlack;
    row->squares_fit = false;
  }

 private:
  WideV high_[kAccumulators], low_[kAccumulators];
};

template <class S>
void sum(const Rows& rows, RowSum* out) {
  Copies<S> of_x, of_y;
  Squares<typename S::Compute> squares;
  for (size_t r = 0; r < rows.rows; ++r) {
    const auto x = source_of<S>(rows, 1, r, &of_x), y = source_of<S>(rows, 2, r, &of_y);
    sweep<S, Store::kNone, true>(hn::ScalableTag<typename S::Compute>(), nullptr, rows.n,
                                 [&, x, y](auto k, auto from) MSELOSS_INLINE {
                                   const auto difference = hn::Sub(from(x), from(y));
                                   squares.add(k, difference);
                                   return difference;
                                 });
  }
  squares.finish(rows.n, rows.rows, out);
}

template <class S, Store kStore>
void grad_sum(const Rows& rows, RowSum* out) {
  using T = typename S::Compute;
  const hn::ScalableTag<T> d;
  const auto scale = hn::Set(d, static_cast<T>(rows.scale));
  Copies<S> of_g, of_x, of_y;
  const auto g = Source<S>(rows.in[0], false, &of_g).load(d, 0);
  Squares<T> squares;
  for (size_t r = 0; r < rows.rows; ++r) {
    const auto x = source_of<S>(rows, 1, r, &of_x), y = source_of<S>(rows, 2, r, &of_y);
    void* to = static_cast<typename S::Memory*>(rows.out) + static_cast<ptrdiff_t>(r) * rows.out_pitch;
    sweep<S, kStore, true>(d, to, rows.n, [&, x, y](auto k, auto from) MSELOSS_INLINE {
      const auto difference = hn::Sub(from(x), from(y));
      squares.add(k, difference);
      return hn::Mul(hn::Mul(difference, scale), g);
    });
  }
  squares.finish(rows.n, rows.rows, out);
}

constexpr size_t kExactBlock = 512;

// Adds the block's values exactly. Each level cuts every value at a common bit, 41 or more below the largest;
// the upper parts are then multiples of that bit and fewer than 2^53 of it together, so that their sum in any
// order is exact.
void add_block(double* values, size_t count, FixedPoint limbs) {
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
void exact_sum(const Rows& rows, uint64_t* limb_array, double* special) {
  using T = typename S::Compute;
  const hn::Rebind<T, Wide> d;
  const Wide wide;
  const size_t lanes = hn::Lanes(wide);
  Copies<S> of_x, of_y;
  FixedPoint limbs(limb_array);
  HWY_ALIGN double differences[kExactBlock], squares[kExactBlock], rests[kExactBlock];
  const size_t blocks = (rows.n + kExactBlock - 1) / kExactBlock;
  for (size_t block = 0; block < rows.rows * blocks; ++block) {
    const size_t r = block / blocks, first = block % blocks * kExactBlock;
    const auto x = source_of<S>(rows, 1, r, &of_x), y = source_of<S>(rows, 2, r, &of_y);
    const size_t n = HWY_MIN(kExactBlock, rows.n - first);
    auto largest = hn::Zero(wide), smallest = hn::Set(wide, 1.0), total = hn::Zero(wide);
    for (size_t i = 0; i < n; i += lanes) {
      const size_t count = HWY_MIN(lanes, n - i);
      const auto difference = HWY_LIKELY(count == lanes)
                                  ? hn::Sub(x.load(d, first + i), y.load(d, first + i))
                                  : hn::Sub(x.load_end(d, first + i, count), y.load_end(d, first + i, count));
      const auto v = widen(difference);
      const auto square = hn::Mul(v, v), magnitude = hn::Abs(v);
      hn::Store(v, wide, differences + i);
      hn::Store(square, wide, squares + i);
      total = hn::Add(total, square);
      largest = hn::Max(largest, magnitude);
      smallest = hn::Min(smallest, hn::IfThenElse(hn::Eq(v, hn::Zero(wide)), smallest, magnitude));
      if constexpr (std::is_same_v<T, double>) hn::Store(square_rest(v, square), wide, rests + i);
    }
    // Squares, and for float64 what their rounding cut off, are exact while exponents stay away from both
    // ends.
    bool plain = std::isfinite(sum_of_lanes(total));
    if constexpr (std::is_same_v<T, double>) {
      plain = plain && hn::GetLane(hn::MaxOfLanes(wide, largest)) < 0x1p480 &&
              hn::GetLane(hn::MinOfLanes(wide, smallest)) > 0x1p-440;
    }
    if (plain) {
      const size_t padded = (n + lanes - 1) / lanes * lanes;
      add_block(squares, padded, limbs);
      if constexpr (std::is_same_v<T, double>) add_block(rests, padded, limbs);
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

void fill_sums(Kernels* kernels, bool rounds_bfloat16) {
  for_each_storage(rounds_bfloat16, [&](DType dtype, auto storage) {
    using S = decltype(storage);
    const int i = static_cast<int>(dtype);
    kernels->sum[i] = &sum<S>;
    kernels->grad_sum[i][0] = &grad_sum<S, Store::kCached>;
    kernels->grad_sum[i][1] = &grad_sum<S, Store::kStreaming>;
    kernels->exact_sum[i] = &exact_sum<S>;
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mseloss::cpu {
HWY_EXPORT(fill_sums);
void fill_sum_kernels(Kernels* kernels, size_t target, bool rounds_bfloat16) {
  HWY_DISPATCH_TABLE(fill_sums)[target](kernels, rounds_bfloat16);
}
}  // namespace mseloss::cpu
#endif
