// Error-free transformations, and exact sums of blocks of doubles. Re-included per target.
#if defined(MSELOSS_EXACT_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_EXACT_BLOCK_INL_H_
#undef MSELOSS_EXACT_BLOCK_INL_H_
#else
#define MSELOSS_EXACT_BLOCK_INL_H_
#endif

#include <cmath>

#include "cpu/kernels/lanes-inl.h"
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

// Returns a * b - product exactly, where product = round(a * b), if nothing underflows and |a|, |b| < 2^996.
HWY_INLINE WideV product_error(WideV a, WideV b, WideV product) {
#if MSELOSS_NATIVE_FMA
  return hn::MulSub(a, b, product);
#else
  // Veltkamp's splitting, Dekker's product.
  const auto factor = hn::Set(Wide(), 134217729.0);  // 2^27 + 1
  const auto split = [&](WideV v) MSELOSS_INLINE {
    const auto scaled = hn::Mul(v, factor);
    return hn::Sub(scaled, hn::Sub(scaled, v));
  };
  const auto a_high = split(a), a_low = hn::Sub(a, a_high);
  const auto b_high = split(b), b_low = hn::Sub(b, b_high);
  const auto cross = hn::Add(hn::Sub(hn::Mul(a_high, b_high), product), hn::Mul(a_high, b_low));
  return hn::Add(hn::Add(cross, hn::Mul(a_low, b_high)), hn::Mul(a_low, b_low));
#endif
}

HWY_INLINE WideV widen(hn::Vec<hn::Rebind<float, Wide>> v) { return hn::PromoteTo(Wide(), v); }
HWY_INLINE WideV widen(WideV v) { return v; }

HWY_INLINE double sum_of_lanes(WideV v) { return hn::GetLane(hn::SumOfLanes(Wide(), v)); }

constexpr size_t kExactBlock = 512;

// Adds at most kExactBlock values exactly. Each pass splits all of them at one bit, 2^(exponent - 42). The
// upper parts are multiples of that bit; 2^9 of them, each below 2^exponent, sum to less than 2^51 times it,
// so float64 adds them exactly in any order.
[[maybe_unused]] static void add_block(double* values, size_t count, FixedPoint limbs) {
  const Wide d;
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Zero(d);
  for (size_t i = 0; i < count; i += lanes) largest = hn::Max(largest, hn::Abs(hn::Load(d, values + i)));
  double top = hn::GetLane(hn::MaxOfLanes(d, largest));
  while (top != 0) {
    int exponent;
    std::frexp(top, &exponent);
    const auto cut = hn::Set(d, std::ldexp(1.5, exponent + 10));
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

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_EXACT_BLOCK_INL_H_
