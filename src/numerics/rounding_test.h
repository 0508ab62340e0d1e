// The rounding test of a sum with an error bound (Ziv's): both ends of its interval are rounded, and if they
// agree, that is the result. docs/numerics.md proves the bounds, with the same names: kUnit, kSlack, kDepth*.
// Shared with the CUDA kernels.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "numerics/fixed_point.h"
#include "numerics/formats.h"
#include "numerics/scale.h"
#include "numerics/sum_access.h"

namespace mseloss {

// Limbs of memory that finish_sum() and finish_scale() need for exact sums.
inline constexpr int kFinishWork = FixedPoint::kWork + 2 * FixedPoint::kLimbs;

// The next larger (smaller) double of a finite value. std::nextafter costs some 70 instructions a call.
MSELOSS_HOST_DEVICE inline double above(double value) {
  if (value == 0) return std::numeric_limits<double>::denorm_min();
  return std::bit_cast<double>(std::bit_cast<int64_t>(value) + (value > 0 ? 1 : -1));
}
MSELOSS_HOST_DEVICE inline double below(double value) { return -above(-value); }

// Adds a row block's sum. An infinite error means that terms of float64 have overflowed.
MSELOSS_HOST_DEVICE inline void add_row(FastSum* total, const RowSum& row) {
  if (!std::isfinite(row.high)) {
    // Squares of float32 do not overflow float64, so a non-finite sum is the result. Squares of float64 can
    // overflow; then only the exact sweep can tell whether a difference was infinite.
    if (row.may_overflow) {
      total->error = INFINITY;
    } else {
      total->special += row.high;
    }
    return;
  }
  const double residual = two_sum(total->high, row.high, &total->high);
  if (!std::isfinite(total->high)) {
    total->high = 0;
    total->error = INFINITY;
    return;
  }
  const double low = total->low + (residual + row.low);
  // Two additions, each with an error of at most kUnit times its result.
  total->error +=
      (row.error + 2 * kUnit * (std::fabs(low) + std::fabs(residual) + std::fabs(row.low))) * kSlack;
  total->low = low;
}

// The true value lies in [high + (low - error), high + (low + error)].
struct Interval {
  double high, low, error;
};

// A fast sum and an exact one (null: 0).
template <bool kAllFast>
MSELOSS_HOST_DEVICE Interval add_exact_part(const FastSum& fast, const uint64_t* limbs) {
  Interval sum;
  double exact_high = 0, exact_low = 0;
  if constexpr (!kAllFast) {
    if (limbs != nullptr) FixedPoint(const_cast<uint64_t*>(limbs)).to_double_double(&exact_high, &exact_low);
  }
  const double residual = two_sum(fast.high, exact_high, &sum.high);
  sum.low = fast.low + (residual + exact_low);
  sum.error =
      (fast.error + 8 * kUnit * (std::fabs(fast.low) + std::fabs(residual) + std::fabs(exact_low))) * kSlack;
  if constexpr (!kAllFast) {
    // Bits below the smallest float64 were cut off: products of three float64 reach to 2^kLowestBit.
    if (limbs != nullptr && FixedPoint(const_cast<uint64_t*>(limbs)).sign() != 0) sum.error += 0x1p-1072;
  }
  return sum;
}

// Rounds an interval; returns false if its ends round to different values. Rounding is monotone, so equal
// ends decide it. A sum without weights is not negative.
MSELOSS_HOST_DEVICE inline bool round_interval(const Interval& sum, DType dtype, bool is_signed,
                                               double* result) {
  if (!std::isfinite(sum.error) || !std::isfinite(sum.high)) return false;
  double first = sum.high + below(sum.low - sum.error), last = sum.high + above(sum.low + sum.error);
  if (dtype != DType::kFloat64) {  // the ends are rounded already: widen the interval before rounding again
    const Format format = format_of(dtype);
    if (!std::isfinite(last) || !std::isfinite(first)) return false;
    first = round_to(format, below(first));
    last = round_to(format, above(last));
  }
  if (!is_signed) first = std::fmax(first, 0);
  if (first != last || (is_signed && std::signbit(first) != std::signbit(last))) return false;
  *result = first;
  return true;
}

// Whether a value's magnitude is far enough from both ends of the range that products and quotients of it and
// their rounding errors do not underflow or overflow.
MSELOSS_HOST_DEVICE inline bool is_moderate(double value) {
  return std::fabs(value) > 0x1p-400 && std::fabs(value) < 0x1p400;
}

// The interval of a / b. docs/numerics.md derives the error.
MSELOSS_HOST_DEVICE inline bool divide(const Interval& a, const Interval& b, Interval* quotient) {
  if (!is_moderate(a.high) || !is_moderate(b.high)) return false;
  const double divisor = std::fabs(b.high);
  if (!(a.error < INFINITY && std::fabs(b.low) + b.error <= 0x1p-20 * divisor)) return false;
  const double q = a.high / b.high, remainder = std::fma(-q, b.high, a.high), product = q * b.low;
  const double correction = (remainder + (a.low - product)) / b.high;
  const double rounding = 4 * kUnit * (std::fabs(remainder) + std::fabs(a.low) + std::fabs(product)) +
                          a.error + std::fabs(q) * b.error;
  const double relative = (std::fabs(b.low) + b.error) / divisor + 4 * kUnit;
  quotient->high = q;
  quotient->low = correction;
  quotient->error = (rounding / divisor + std::fabs(correction) * relative) * (1 + 0x1p-16);
  return true;
}

// 1 or -1 if an interval excludes zero, else 0.
MSELOSS_HOST_DEVICE inline int sign_of(const Interval& sum) {
  if (!(sum.error < INFINITY)) return 0;
  if (sum.high + below(sum.low - sum.error) > 0) return 1;
  return sum.high + above(sum.low + sum.error) < 0 ? -1 : 0;
}

// The divisor of a mean: the weights, and 1 for each element without one.
MSELOSS_HOST_DEVICE inline void exact_divisor(const SumState& state, const uint64_t* weight_limbs,
                                              uint64_t* limbs) {
  std::copy_n(weight_limbs, PartialSum::kLimbs, limbs);
  FixedPoint(limbs).add_integer(state.count);
}

// The same from fast sums, or from fast and exact ones. Returns false if float64 cannot represent the count.
template <bool kAllFast>
MSELOSS_HOST_DEVICE bool fast_divisor(const SumState& state, const uint64_t* limbs, Interval* divisor) {
  if (state.count > uint64_t{1} << 53) return false;
  const bool all_fast = kAllFast || state.fast_terms == state.count + state.weighted;
  *divisor = add_exact_part<kAllFast>(state.weights, all_fast ? nullptr : limbs + PartialSum::kLimbs);
  FastSum with_count{divisor->high, divisor->low, divisor->error, 0};
  add_row(&with_count, {static_cast<double>(state.count), 0, 0, true});
  *divisor = {with_count.high, with_count.low, with_count.error};
  return true;
}

// 2 / (copies * divisor), rounded once. `work` has kFinishWork limbs.
MSELOSS_HOST_DEVICE inline double two_over(const FixedPoint& divisor, uint64_t copies, DType dtype,
                                           uint64_t* work) {
  uint64_t *const magnitude = work + FixedPoint::kWork, *const two = magnitude + FixedPoint::kLimbs;
  divisor.magnitude(magnitude);
  FixedPoint(magnitude).multiply(copies);
  for (int i = 0; i < FixedPoint::kLimbs; ++i) two[i] = 0;
  FixedPoint(two).add_integer(2);
  const double scale = FixedPoint(two).divide_and_round(FixedPoint(magnitude), dtype, work);
  return divisor.sign() < 0 ? -scale : scale;
}
// 2 / divisor from an interval; returns false if the rounding test fails.
MSELOSS_HOST_DEVICE inline bool two_over(const Interval& divisor, DType dtype, double* scale) {
  Interval quotient;
  return divide({2, 0, 0}, divisor, &quotient) && round_interval(quotient, dtype, true, scale);
}

// finish() with weights. Writes nothing if it returns false.
template <bool kAllFast>
MSELOSS_HOST_DEVICE bool finish_weighted(const SumState& state, const uint64_t* limbs, bool mean, DType dtype,
                                         uint64_t* work, double* result) {
  const bool exact = !kAllFast && state.fast_terms == 0;
  const bool all_fast = kAllFast || state.fast_terms == state.count + state.weighted;
  const FastSum& squares = state.squares;
  if (std::isnan(squares.special) || (mean && state.weights.special != 0)) {
    // A weight that is not finite makes its term infinite or NaN too, and the quotient NaN.
    *result = NAN;
    return true;
  }
  if (squares.special != 0 && !(squares.error < INFINITY && state.weights.error < INFINITY)) return false;
  uint64_t* const divisor_limbs = work + FixedPoint::kWork;
  if constexpr (!kAllFast) {
    if (exact && mean) exact_divisor(state, limbs + PartialSum::kLimbs, divisor_limbs);
    if (exact && squares.special == 0) {
      const FixedPoint sum(const_cast<uint64_t*>(limbs));
      *result = mean ? sum.divide_and_round(FixedPoint(divisor_limbs), dtype, work)
                     : sum.divide_and_round(1, dtype, work);
      return true;
    }
  }
  Interval divisor{};
  if (mean && !exact && !fast_divisor<kAllFast>(state, limbs, &divisor)) return false;
  if (squares.special != 0) {
    *result = squares.special;
    if (!mean) return true;
    int sign = sign_of(divisor);
    if constexpr (!kAllFast) {
      if (exact) sign = FixedPoint(divisor_limbs).sign();
    }
    if (sign == 0 && !exact) return false;
    if (sign < 0) *result = -*result;
    return true;
  }
  Interval sum = add_exact_part<kAllFast>(squares, all_fast ? nullptr : limbs);
  if (mean) {
    if (sum.high == 0 && sum.low == 0 && sum.error == 0 && sign_of(divisor) != 0) {
      *result = 0;
      return true;
    }
    if (!divide(sum, divisor, &sum)) return false;
  }
  return round_interval(sum, dtype, true, result);
}

// SumAccess::finish() without the store and without setting the rounding mode. With kAllFast every term is in
// the fast sum, and `limbs` may be null; without it, if all terms of this sum are.
template <bool kAllFast>
MSELOSS_HOST_DEVICE bool finish_sum(const SumState& state, const uint64_t* limbs, Reduction reduction,
                                    DType dtype, uint64_t* work, double* out) {
  if (reduction != Reduction::kMean && reduction != Reduction::kSum) return false;
  const bool mean = reduction == Reduction::kMean;
  double result;
  if (state.weighted != 0) {
    if (!finish_weighted<kAllFast>(state, limbs, mean, dtype, work, &result)) return false;
    *out = result;
    return true;
  }
  const FastSum& squares = state.squares;
  const uint64_t divisor = mean ? state.count : 1;
  if (divisor == 0) {
    *out = NAN;
    return true;
  }
  // If the bound is infinite, a NaN difference may be hidden behind this infinity.
  if (squares.special != 0 && (std::isnan(squares.special) || std::isfinite(squares.error))) {
    *out = squares.special;
    return true;
  }
  if (state.fast_terms == 0) {
    *out = 0;
    if constexpr (!kAllFast) {
      if (limbs != nullptr)
        *out = FixedPoint(const_cast<uint64_t*>(limbs)).divide_and_round(divisor, dtype, work);
    }
    return true;
  }
  Interval sum = add_exact_part<kAllFast>(squares, state.count == state.fast_terms ? nullptr : limbs);
  if (mean) {
    const double n = static_cast<double>(state.count);
    if (state.count > uint64_t{1} << 53) return false;
    // high / n = quotient + remainder / n with an exact remainder; an underflow loses less than the smallest
    // subnormal.
    const double quotient = sum.high / n, remainder = std::fma(-quotient, n, sum.high);
    const double correction = (remainder + sum.low) / n;
    sum.error = (sum.error / n +
                 4 * kUnit * (std::fabs(correction) + (std::fabs(remainder) + std::fabs(sum.low)) / n)) *
                    kSlack +
                4 * std::numeric_limits<double>::denorm_min();
    sum.high = quotient;
    sum.low = correction;
  }
  if (!round_interval(sum, dtype, false, &result)) return false;
  *out = result;
  return true;
}

// SumAccess::scale(), without setting the rounding mode; `limbs` and kAllFast as for finish_sum().
template <bool kAllFast>
MSELOSS_HOST_DEVICE bool finish_scale(const SumState& state, const uint64_t* limbs, uint64_t copies,
                                      DType dtype, uint64_t* work, double* scale) {
  const FastSum& sum = state.squares;
  if (state.weighted == 0) {  // of a mask, or empty
    const uint64_t count = state.count * copies;
    *scale = count == 0 ? INFINITY : mean_scale(dtype, static_cast<int64_t>(count));
    return true;
  }
  if (std::isnan(sum.special)) {
    *scale = NAN;
    return true;
  }
  if (sum.special != 0) {
    if (!(sum.error < INFINITY)) return false;
    *scale = std::copysign(0.0, sum.special);
    return true;
  }
  if constexpr (!kAllFast) {
    if (state.fast_terms == 0) {
      *scale = two_over(FixedPoint(const_cast<uint64_t*>(limbs)), copies, dtype, work);
      return true;
    }
  }
  if (copies > uint64_t{1} << 53) return false;
  // copies * (high + low), with the rounding error of the first product.
  const double n = static_cast<double>(copies), high = n * sum.high;
  const double low = std::fma(n, sum.high, -high) + n * sum.low;
  const Interval divisor{high, low,
                         (n * sum.error + 4 * kUnit * (std::fabs(low) + std::fabs(n * sum.low))) * kSlack};
  return is_moderate(sum.high) && two_over(divisor, dtype, scale);
}

}  // namespace mseloss
