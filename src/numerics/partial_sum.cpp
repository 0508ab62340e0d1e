#include "mseloss/partial_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "numerics/fixed_point.h"
#include "numerics/float_environment.h"
#include "numerics/formats.h"
#include "numerics/scale.h"
#include "numerics/sum_access.h"

// docs/numerics.md proves the error bounds, with the same names: kUnit, kSlack, kDepth*.
namespace mseloss {
namespace {

// The next larger (smaller) double of a finite value. std::nextafter costs some 70 instructions a call.
double above(double value) {
  if (value == 0) return std::numeric_limits<double>::denorm_min();
  return std::bit_cast<double>(std::bit_cast<int64_t>(value) + (value > 0 ? 1 : -1));
}
double below(double value) { return -above(-value); }

// Adds a row block's sum. An infinite error means that terms of float64 have overflowed.
void add_row(FastSum* total, const RowSum& row) {
  if (!std::isfinite(row.high)) {
    // Squares of float32 do not overflow float64, so a non-finite sum is the result. Squares of float64 can
    // overflow; then only the exact sweep can tell whether a difference was infinite.
    if (row.squares_fit) {
      total->special += row.high;
    } else {
      total->error = INFINITY;
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

}  // namespace

void SumAccess::add_fast(SumState* total, const RowSum& row, uint64_t terms) {
  total->fast_terms += terms;
  total->count += terms;
  add_row(&total->squares, row);
}

void SumAccess::add_fast(SumState* total, const WeightedRowSum& row, uint64_t terms, bool masked) {
  if (masked) return add_fast(total, row.squares, static_cast<uint64_t>(row.weights.high));
  total->fast_terms += terms;
  total->weighted += terms;
  add_row(&total->squares, row.squares);
  add_row(&total->weights, row.weights);
}

void SumAccess::merge(const SumTarget& total, const SumState& other, const uint64_t* other_limbs) {
  SumState& state = *total.state;
  const bool exact_terms = other.count + other.weighted != other.fast_terms;
  const auto add_fast_sum = [](FastSum* to, const FastSum& from) {
    to->special += from.special;
    add_row(to, {from.high, from.low, from.error, false});
  };
  if (other.fast_terms != 0) {
    add_fast_sum(&state.squares, other.squares);
    add_fast_sum(&state.weights, other.weights);
  } else {
    state.squares.special += other.squares.special;
    state.weights.special += other.weights.special;
  }
  if (exact_terms) {
    for (const int i : {0, PartialSum::kLimbs}) {
      uint64_t copy[PartialSum::kLimbs];  // other may be *this
      std::copy_n(other_limbs + i, PartialSum::kLimbs, copy);
      FixedPoint(total.limbs + i).add(FixedPoint(copy));
    }
  }
  state.count += other.count;
  state.weighted += other.weighted;
  state.fast_terms += other.fast_terms;
}

bool SumAccess::is_valid(const PartialSum& sum) {
  const SumState& state = sum.state_;
  const uint64_t terms = state.count + state.weighted;
  if (terms < state.count || state.fast_terms > terms) return false;
  const bool weighted = state.weighted != 0;
  for (const FastSum* fast : {&state.squares, &state.weights}) {
    if (!(fast->special == 0 || std::isnan(fast->special) || std::isinf(fast->special))) return false;
    // An error that is not finite means that terms of float64 have overflowed.
    if (!std::isfinite(fast->high) || fast->error < 0) return false;
    if (std::isfinite(fast->error) && !std::isfinite(fast->low)) return false;
    const bool unused = state.fast_terms == 0 || (fast == &state.weights && !weighted);
    if (unused && (fast->high != 0 || fast->low != 0 || fast->error != 0)) return false;
  }
  if (!weighted && (state.squares.high < 0 || state.squares.special < 0 || state.weights.special != 0))
    return false;
  // The exact part: each term is less than 2^top, so their sum divided by that is less than their number.
  const uint64_t exact_terms = terms - state.fast_terms;
  const auto plausible = [&](const uint64_t* limbs, int top) {
    uint64_t magnitude[PartialSum::kLimbs];
    const FixedPoint value(const_cast<uint64_t*>(limbs));
    const int sign = value.sign();
    if (sign == 0 || exact_terms == 0) return sign == 0;
    if (sign < 0 && !weighted) return false;
    value.magnitude(magnitude);
    const int limb = (top - PartialSum::kLowestBit) / 64, bit = (top - PartialSum::kLowestBit) % 64;
    for (int i = limb + 1; i < PartialSum::kLimbs; ++i) {
      if (i == limb + 1 ? magnitude[i] >> bit != 0 : magnitude[i] != 0) return false;
    }
    const uint64_t quotient = magnitude[limb] >> bit | (bit == 0 ? 0 : magnitude[limb + 1] << (64 - bit));
    return quotient < exact_terms;
  };
  if (!weighted && FixedPoint(const_cast<uint64_t*>(sum.limbs_[1])).sign() != 0) return false;
  return plausible(sum.limbs_[0], weighted ? 3 * 1024 : 2 * 1024) && plausible(sum.limbs_[1], 1024);
}

void PartialSum::merge(const PartialSum& other) noexcept {
  const FloatEnvironment environment;
  SumAccess::merge({&state_, limbs_[0]}, other.state_, other.limbs_[0]);
}

double PartialSum::bound() const {
  return (state_.squares.error + kUnit * std::fabs(state_.squares.high + state_.squares.low)) * kSlack;
}

namespace {

// The true value lies in [high + (low - error), high + (low + error)].
struct Interval {
  double high, low, error;
};

// A fast sum and an exact one (null: 0).
Interval add_exact_part(const FastSum& fast, const uint64_t* limbs) {
  Interval sum;
  double exact_high = 0, exact_low = 0;
  if (limbs != nullptr) FixedPoint(const_cast<uint64_t*>(limbs)).to_double_double(&exact_high, &exact_low);
  const double residual = two_sum(fast.high, exact_high, &sum.high);
  sum.low = fast.low + (residual + exact_low);
  sum.error =
      (fast.error + 8 * kUnit * (std::fabs(fast.low) + std::fabs(residual) + std::fabs(exact_low))) * kSlack;
  return sum;
}

// Rounds an interval; returns false if its ends round to different values. Rounding is monotone, so equal
// ends decide it. A sum without weights is not negative.
bool round_interval(const Interval& sum, DType dtype, bool is_signed, double* result) {
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
bool is_moderate(double value) { return std::fabs(value) > 0x1p-400 && std::fabs(value) < 0x1p400; }

// The interval of a / b. docs/numerics.md derives the error.
bool divide(const Interval& a, const Interval& b, Interval* quotient) {
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
int sign_of(const Interval& sum) {
  if (!(sum.error < INFINITY)) return 0;
  if (sum.high + below(sum.low - sum.error) > 0) return 1;
  return sum.high + above(sum.low + sum.error) < 0 ? -1 : 0;
}

// The divisor of a mean: the weights, and 1 for each element without one.
void exact_divisor(const SumState& state, const uint64_t* weight_limbs, uint64_t* limbs) {
  std::copy_n(weight_limbs, PartialSum::kLimbs, limbs);
  FixedPoint(limbs).add_integer(state.count);
}

// The same from fast sums, or from fast and exact ones. Returns false if float64 cannot represent the count.
bool fast_divisor(const SumState& state, const uint64_t* limbs, Interval* divisor) {
  if (state.count > uint64_t{1} << 53) return false;
  const bool all_fast = state.fast_terms == state.count + state.weighted;
  *divisor = add_exact_part(state.weights, all_fast ? nullptr : limbs + PartialSum::kLimbs);
  FastSum with_count{divisor->high, divisor->low, divisor->error, 0};
  add_row(&with_count, {static_cast<double>(state.count), 0, 0, false});
  *divisor = {with_count.high, with_count.low, with_count.error};
  return true;
}

// 2 / divisor, rounded once.
double exact_scale(const FixedPoint& divisor, DType dtype) {
  uint64_t magnitude[PartialSum::kLimbs], two[PartialSum::kLimbs] = {};
  divisor.magnitude(magnitude);
  FixedPoint(two).add_integer(2);
  const double scale = FixedPoint(two).divide_and_round(FixedPoint(magnitude), dtype);
  return divisor.sign() < 0 ? -scale : scale;
}
bool fast_scale(const Interval& divisor, DType dtype, double* scale) {
  Interval quotient;
  return divide({2, 0, 0}, divisor, &quotient) && round_interval(quotient, dtype, true, scale);
}

// finish() with weights. Writes nothing if it returns false.
bool finish_weighted(const SumState& state, const uint64_t* limbs, bool mean, DType dtype, double* result) {
  const bool exact = state.fast_terms == 0;
  const bool all_fast = state.fast_terms == state.count + state.weighted;
  const FastSum& squares = state.squares;
  if (std::isnan(squares.special) || (mean && state.weights.special != 0)) {
    // A weight that is not finite makes its term infinite or NaN too, and the quotient NaN.
    *result = NAN;
    return true;
  }
  if (squares.special != 0 && !(squares.error < INFINITY && state.weights.error < INFINITY)) return false;
  uint64_t divisor_limbs[PartialSum::kLimbs];
  if (exact && mean) exact_divisor(state, limbs + PartialSum::kLimbs, divisor_limbs);
  if (exact && squares.special == 0) {
    const FixedPoint sum(const_cast<uint64_t*>(limbs));
    *result = mean ? sum.divide_and_round(FixedPoint(divisor_limbs), dtype) : sum.divide_and_round(1, dtype);
    return true;
  }
  Interval divisor{};
  if (mean && !exact && !fast_divisor(state, limbs, &divisor)) return false;
  if (squares.special != 0) {
    *result = squares.special;
    if (!mean) return true;
    const int sign = exact ? FixedPoint(divisor_limbs).sign() : sign_of(divisor);
    if (sign == 0 && !exact) return false;
    if (sign < 0) *result = -*result;
    return true;
  }
  Interval sum = add_exact_part(squares, all_fast ? nullptr : limbs);
  if (mean) {
    if (sum.high == 0 && sum.low == 0 && sum.error == 0 && sign_of(divisor) != 0) {
      *result = 0;
      return true;
    }
    if (!divide(sum, divisor, &sum)) return false;
  }
  return round_interval(sum, dtype, true, result);
}

}  // namespace

bool SumAccess::finish(const SumState& state, const uint64_t* limbs, Reduction reduction, DType dtype,
                       void* out) {
  const FloatEnvironment environment;
  if (reduction != Reduction::kMean && reduction != Reduction::kSum) return false;
  const bool mean = reduction == Reduction::kMean;
  double result;
  if (state.weighted != 0) {
    if (!finish_weighted(state, limbs, mean, dtype, &result)) return false;
    store_exact(result, dtype, out);
    return true;
  }
  const FastSum& squares = state.squares;
  const uint64_t divisor = mean ? state.count : 1;
  if (divisor == 0) {
    store_exact(NAN, dtype, out);
    return true;
  }
  // If the bound is infinite, a NaN difference may be hidden behind this infinity.
  if (squares.special != 0 && (std::isnan(squares.special) || std::isfinite(squares.error))) {
    store_exact(squares.special, dtype, out);
    return true;
  }
  if (state.fast_terms == 0) {
    result = limbs == nullptr ? 0 : FixedPoint(const_cast<uint64_t*>(limbs)).divide_and_round(divisor, dtype);
    store_exact(result, dtype, out);
    return true;
  }
  Interval sum = add_exact_part(squares, state.count == state.fast_terms ? nullptr : limbs);
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
  store_exact(result, dtype, out);
  return true;
}

bool PartialSum::finish(Reduction reduction, DType dtype, void* out) const noexcept {
  return SumAccess::finish(state_, limbs_[0], reduction, dtype, out);
}

bool SumAccess::scale(const SumState& state, const uint64_t* limbs, uint64_t copies, DType dtype,
                      double* scale) {
  const FloatEnvironment environment;
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
  if (state.fast_terms == 0) {
    uint64_t product[PartialSum::kLimbs];
    FixedPoint total(product);
    std::copy_n(limbs, PartialSum::kLimbs, product);
    const bool negative = total.sign() < 0;
    total.magnitude(product);
    total.multiply(copies);
    *scale = exact_scale(total, dtype);
    if (negative) *scale = -*scale;
    return true;
  }
  if (copies > uint64_t{1} << 53) return false;
  // copies * (high + low), with the rounding error of the first product.
  const double n = static_cast<double>(copies), high = n * sum.high;
  const double low = std::fma(n, sum.high, -high) + n * sum.low;
  const Interval divisor{high, low,
                         (n * sum.error + 4 * kUnit * (std::fabs(low) + std::fabs(n * sum.low))) * kSlack};
  return is_moderate(sum.high) && fast_scale(divisor, dtype, scale);
}

bool PartialSum::scale(Reduction reduction, DType dtype, double* scale) const noexcept {
  const FloatEnvironment environment;
  const DType compute = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
  const FastSum& weights = state_.weights;
  if (reduction == Reduction::kSum) {
    *scale = 2;
  } else if (reduction != Reduction::kMean) {
    return false;
  } else if (state_.weighted == 0) {
    *scale = mean_scale(compute, static_cast<int64_t>(state_.count));
  } else if (weights.special != 0) {
    if (!std::isnan(weights.special) && !(weights.error < INFINITY)) return false;
    *scale = std::isnan(weights.special) ? NAN : std::copysign(0.0, weights.special);
  } else if (state_.fast_terms == 0) {
    uint64_t divisor[kLimbs];
    exact_divisor(state_, limbs_[1], divisor);
    *scale = exact_scale(FixedPoint(divisor), compute);
  } else {
    Interval divisor;
    return fast_divisor(state_, limbs_[0], &divisor) && fast_scale(divisor, compute, scale);
  }
  return true;
}

}  // namespace mseloss
