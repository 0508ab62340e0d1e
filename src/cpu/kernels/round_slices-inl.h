// The rounding of the sums of many slices at once, and of the scales of their gradients. Re-included per
// target.
#if defined(MSELOSS_ROUND_SLICES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_ROUND_SLICES_INL_H_
#undef MSELOSS_ROUND_SLICES_INL_H_
#else
#define MSELOSS_ROUND_SLICES_INL_H_
#endif

#include <cstring>
#include <limits>

#include "cpu/kernels/exact_block-inl.h"
#include "cpu/kernels/kernels.h"
#include "numerics/formats.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// The true value lies in [high + (low - error), high + (low + error)].
struct WideInterval {
  WideV high, low, error;
};

HWY_INLINE WideInterval load_interval(const double* planes, ptrdiff_t plane) {
  const Wide d;
  return {hn::LoadU(d, planes), hn::LoadU(d, planes + plane), hn::LoadU(d, planes + 2 * plane)};
}

// Whether magnitudes are in the range in which divide() of numerics/rounding_test.h is valid.
HWY_INLINE hn::Mask<Wide> is_moderate(WideV v) {
  const Wide d;
  const auto magnitude = hn::Abs(v);
  return hn::And(hn::Gt(magnitude, hn::Set(d, 0x1p-400)), hn::Lt(magnitude, hn::Set(d, 0x1p400)));
}

// a divided by an exact value or, if kQuotient, by an interval; `inverse` is 1 / b.high, rounded. As
// divide(), but with products by the inverse, whose rounding the factors 8 cover.
template <bool kQuotient>
HWY_INLINE WideInterval divide(const WideInterval& a, const WideInterval& b, WideV inverse) {
  const Wide d;
  const auto roundings = hn::Set(d, 8 * kUnit), slack = hn::Set(d, 1 + 0x1p-16);
  const auto quotient = hn::Mul(a.high, inverse), product = hn::Mul(quotient, b.high);
  const auto remainder = hn::Sub(hn::Sub(a.high, product), product_error(quotient, b.high, product));
  auto magnitude = hn::Add(hn::Abs(remainder), hn::Abs(a.low)), rest = a.low, error = a.error,
       relative = roundings;
  const auto scale = hn::Abs(inverse);
  if constexpr (kQuotient) {
    const auto tail = hn::Mul(quotient, b.low);
    magnitude = hn::Add(magnitude, hn::Abs(tail));
    rest = hn::Sub(rest, tail);
    error = hn::Add(error, hn::Mul(hn::Abs(quotient), b.error));
    relative = hn::Add(relative, hn::Mul(hn::Add(hn::Abs(b.low), b.error), scale));
  }
  const auto correction = hn::Mul(hn::Add(remainder, rest), inverse);
  const auto absolute = hn::Mul(hn::Add(error, hn::Mul(magnitude, roundings)), scale);
  return {quotient, correction, hn::Mul(hn::Add(absolute, hn::Mul(hn::Abs(correction), relative)), slack)};
}

// Rounds float32 to the half type kTo, or to NaN where that may differ from rounding the float64 value that v
// was rounded from: in the middle between two values of the half type, and for float16 outside its normal
// values.
template <DType kTo, class D>
HWY_INLINE hn::Vec<D> round_to_half(D d, hn::Vec<D> v) {
  constexpr int kShift = kTo == DType::kFloat16 ? 13 : 16;  // bits that float32 has more in its fraction
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v), middle = hn::Set(du, 1u << (kShift - 1)), one = hn::Set(du, 1);
  const auto rest = hn::Set(du, (1u << kShift) - 1), odd = hn::And(hn::ShiftRight<kShift>(bits), one);
  const auto rounded = hn::AndNot(rest, hn::Add(hn::Add(bits, hn::Sub(middle, one)), odd));
  auto unsure = hn::RebindMask(d, hn::Eq(hn::And(bits, rest), middle));
  if constexpr (kTo == DType::kFloat16) {
    const auto magnitude = hn::Abs(v);
    const auto normal =
        hn::And(hn::Ge(magnitude, hn::Set(d, 0x1p-14f)), hn::Lt(magnitude, hn::Set(d, 65504.0f)));
    unsure = hn::Or(unsure, hn::Not(hn::Or(normal, hn::Eq(v, hn::Zero(d)))));
  }
  return hn::IfThenElse(unsure, hn::Set(d, std::numeric_limits<float>::quiet_NaN()), hn::BitCast(d, rounded));
}

// Rounds both ends of an interval to kTo, in the storage format S, and writes the results that agree; the
// others become store_pending(). `tiny` covers what underflows lose. Returns whether all agree.
template <DType kTo, class S, bool kSigned>
HWY_INLINE bool store_rounded_ends(const WideInterval& v, size_t count, typename S::Memory* to) {
  const Wide d;
  const auto tiny = hn::Set(d, 0x1p-1070), nan = hn::Set(d, std::numeric_limits<double>::quiet_NaN());
  const auto half_width = hn::Add(v.error, tiny);
  auto first = hn::Add(v.high, hn::Sub(v.low, half_width)),
       last = hn::Add(v.high, hn::Add(v.low, half_width));
  const auto largest = hn::Max(hn::Abs(first), hn::Abs(last));
  const size_t lanes = HWY_MIN(count, hn::Lanes(d));
  HWY_ALIGN typename S::Memory results[hn::MaxLanes(d)];
  HWY_ALIGN uint8_t decided_bits[8] = {};
  bool all;
  const auto write = [&](auto dn, auto low_end, auto high_end) MSELOSS_INLINE {
    if constexpr (!kSigned) low_end = hn::Max(low_end, hn::Zero(dn));
    auto decided = hn::Eq(low_end, high_end);
    if constexpr (kSigned) {  // -0 and +0 leave the sign open
      decided = hn::And(decided, hn::Ne(low_end, hn::Zero(dn)));
    }
    S::store(dn, high_end, HWY_LIKELY(count >= hn::Lanes(dn)) ? to : results);
    all = hn::AllTrue(dn, decided);
    if (!all) hn::StoreMaskBits(dn, decided, decided_bits);
  };
  if constexpr (kTo == DType::kFloat64) {  // the ends are rounded already
    write(d, first, hn::IfThenElse(hn::Lt(largest, hn::Set(d, 0x1p1023)), last, nan));
  } else {
    const hn::Rebind<float, Wide> narrow;
    const auto widen_by = hn::MulAdd(hn::Set(d, 4 * kUnit), largest, tiny);
    const auto fits = hn::Lt(largest, hn::Set(d, 0x1p127));  // no conversion overflows
    first = hn::Sub(first, widen_by);
    if constexpr (!kSigned) first = hn::Max(first, hn::Zero(d));
    auto low_end = hn::DemoteTo(narrow, hn::IfThenElse(fits, first, nan)),
         high_end = hn::DemoteTo(narrow, hn::IfThenElse(fits, hn::Add(last, widen_by), nan));
    if constexpr (kTo != DType::kFloat32) {
      low_end = round_to_half<kTo>(narrow, low_end);
      high_end = round_to_half<kTo>(narrow, high_end);
    }
    write(narrow, low_end, high_end);
  }
  if (HWY_UNLIKELY(lanes < hn::Lanes(d))) std::memcpy(to, results, lanes * sizeof(results[0]));
  if (HWY_LIKELY(all)) return true;
  bool complete = true;
  for (size_t k = 0; k < lanes; ++k) {
    if ((decided_bits[k / 8] >> (k % 8) & 1) != 0) continue;
    complete = false;
    store_pending(kTo, to + k);
  }
  return complete;
}

// a / b, with NaN where divide() of numerics/rounding_test.h is not valid.
HWY_INLINE WideInterval checked_quotient(const WideInterval& a, const WideInterval& b) {
  const Wide d;
  const auto valid =
      hn::And(hn::And(is_moderate(a.high), is_moderate(b.high)),
              hn::Le(hn::Add(hn::Abs(b.low), b.error), hn::Mul(hn::Abs(b.high), hn::Set(d, 0x1p-20))));
  WideInterval quotient = divide<true>(a, b, hn::Div(hn::Set(d, 1.0), b.high));
  quotient.high = hn::IfThenElse(valid, quotient.high, hn::Set(d, std::numeric_limits<double>::quiet_NaN()));
  return quotient;
}

// Rounds interval_of(planes of a vector of slices) for `count` slices. Returns whether all are decided.
template <DType kTo, class S, bool kSigned, class F>
HWY_INLINE bool round_intervals(const double* planes, size_t count, void* out, const F& interval_of) {
  auto* results = static_cast<typename S::Memory*>(out);
  bool all = true;
  for (size_t i = 0; i < count; i += hn::Lanes(Wide())) {
    all &= store_rounded_ends<kTo, S, kSigned>(interval_of(planes + i), count - i, results + i);
  }
  return all;
}

// The same interval as in PartialSum::finish(), widened by a few units in its last place.
template <DType kTo, class S, bool kWeighted>
bool round_slices(const double* planes, ptrdiff_t plane, size_t count, double divisor, void* out) {
  const Wide d;
  const auto zero = hn::Zero(d), one = hn::Set(d, 1.0);
  if (divisor != 0) {
    const WideInterval n{hn::Set(d, divisor), zero, zero};
    const auto inverse = hn::Div(one, n.high);
    return round_intervals<kTo, S, kWeighted>(planes, count, out, [&](const double* at) MSELOSS_INLINE {
      return divide<false>(load_interval(at, plane), n, inverse);
    });
  }
  return round_intervals<kTo, S, kWeighted>(planes, count, out, [&](const double* at) MSELOSS_INLINE {
    const WideInterval sum = load_interval(at, plane);
    const double* weights = at + kSlicePlanes * plane;
    if constexpr (kWeighted) {
      return checked_quotient(sum, load_interval(weights, plane));
    } else {
      const WideInterval n{hn::LoadU(d, weights), zero, zero};
      return divide<false>(sum, n, hn::Div(one, n.high));
    }
  });
}

// 2 / sum(w) of each slice, rounded to the compute dtype kTo.
template <DType kTo, class S>
bool slice_scales(const double* planes, ptrdiff_t plane, size_t count, bool masked, void* out) {
  const auto zero = hn::Zero(Wide());
  const WideInterval two{hn::Set(Wide(), 2.0), zero, zero};
  return round_intervals<kTo, S, true>(planes, count, out, [&](const double* at) MSELOSS_INLINE {
    WideInterval weights = load_interval(at, plane);
    if (masked) weights.low = weights.error = zero;  // an exact count
    return checked_quotient(two, weights);
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_ROUND_SLICES_INL_H_
