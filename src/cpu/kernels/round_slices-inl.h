// The rounding of the sums of many slices at once. Re-included per target.
#if defined(MSELOSS_ROUND_SLICES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_ROUND_SLICES_INL_H_
#undef MSELOSS_ROUND_SLICES_INL_H_
#else
#define MSELOSS_ROUND_SLICES_INL_H_
#endif

#include <limits>

#include "cpu/kernels/exact_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

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
    const auto normal = hn::And(hn::Ge(v, hn::Set(d, 0x1p-14f)), hn::Lt(v, hn::Set(d, 65504.0f)));
    unsure = hn::Or(unsure, hn::Not(hn::Or(normal, hn::Eq(v, hn::Zero(d)))));
  }
  return hn::IfThenElse(unsure, hn::Set(d, std::numeric_limits<float>::quiet_NaN()), hn::BitCast(d, rounded));
}

// result[i] = the sum of slice i divided by the divisor, rounded to kTo, or NaN if that is not certain: the
// ends of its interval must round to the same value. The same interval as in PartialSum::finish(), widened by
// a few units in its last place.
template <DType kTo>
void round_slices(const double* planes, ptrdiff_t plane, size_t count, double divisor, double* result) {
  const Wide d;
  const auto unit = hn::Set(d, kUnit), slack = hn::Set(d, kSlack), tiny = hn::Set(d, 0x1p-1070);
  const auto zero = hn::Zero(d), nan = hn::Set(d, std::numeric_limits<double>::quiet_NaN());
  for (size_t i = 0; i < count; i += hn::Lanes(d)) {
    const double* at = planes + i;
    const auto n = divisor != 0 ? hn::Set(d, divisor) : hn::LoadU(d, at + 3 * plane);
    const auto high = hn::LoadU(d, at), low = hn::LoadU(d, at + plane), error = hn::LoadU(d, at + 2 * plane);
    const auto quotient = hn::Div(high, n), product = hn::Mul(quotient, n);
    const auto remainder = hn::Sub(hn::Sub(high, product), product_error(quotient, n, product));
    const auto correction = hn::Div(hn::Add(remainder, low), n);
    const auto magnitude =
        hn::Div(hn::Add(hn::Add(hn::Abs(remainder), hn::Abs(low)), hn::Mul(error, slack)), n);
    // error / n exceeds its rounding by the slack; the other terms are roundings of 8 units at most.
    const auto rounding = hn::Mul(hn::Mul(unit, hn::Set(d, 8.0)), hn::Add(hn::Abs(correction), magnitude));
    const auto half_width = hn::Add(hn::Add(hn::Div(hn::Mul(error, slack), n), rounding), tiny);
    auto first = hn::Add(quotient, hn::Sub(correction, half_width));
    auto last = hn::Add(quotient, hn::Add(correction, half_width));
    if constexpr (kTo != DType::kFloat64) {  // the ends are rounded already
      const auto widen_by = hn::MulAdd(hn::Mul(unit, hn::Set(d, 4.0)), hn::Abs(last), tiny);
      const auto fits = hn::Lt(last, hn::Set(d, 0x1p127));  // no conversion overflows
      const auto rounded = [](WideV end) MSELOSS_INLINE {
        const hn::Rebind<float, Wide> narrow;
        auto v = hn::DemoteTo(narrow, end);
        if constexpr (kTo != DType::kFloat32) v = round_to_half<kTo>(narrow, v);
        return hn::PromoteTo(Wide(), v);
      };
      first = rounded(hn::Max(hn::Sub(first, widen_by), zero));
      last = hn::IfThenElse(fits, rounded(hn::Add(last, widen_by)), nan);
    } else {
      first = hn::Max(first, zero);
      last = hn::IfThenElse(hn::Lt(last, hn::Set(d, 0x1p1023)), last, nan);
    }
    hn::StoreU(hn::IfThenElse(hn::Eq(first, last), last, nan), d, result + i);
  }
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_ROUND_SLICES_INL_H_
