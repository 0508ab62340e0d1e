#include "mseloss/partial_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "numerics/fixed_point.h"
#include "numerics/float_environment.h"
#include "numerics/formats.h"
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

}  // namespace

void SumAccess::add_fast(PartialSum* total, const RowSum& row, uint64_t terms) {
  total->fast_terms_ += terms;
  total->count_ += terms;
  if (!std::isfinite(row.high)) {
    // Squares of float32 do not overflow float64, so a non-finite sum is the result. Squares of float64 can
    // overflow; then only the exact sweep can tell whether a difference was infinite.
    if (row.squares_fit) {
      total->special_ += row.high;
    } else {
      total->error_ = INFINITY;
    }
    return;
  }
  const double residual = two_sum(total->high_, row.high, &total->high_);
  if (!std::isfinite(total->high_)) {
    total->high_ = 0;
    total->error_ = INFINITY;
    return;
  }
  const double low = total->low_ + (residual + row.low);
  // Two additions, each with an error of at most kUnit times its result.
  total->error_ +=
      (row.error + 2 * kUnit * (std::fabs(low) + std::fabs(residual) + std::fabs(row.low))) * kSlack;
  total->low_ = low;
}

void SumAccess::add_exact(PartialSum* total, uint64_t terms) { total->count_ += terms; }
void SumAccess::add_special(PartialSum* total, double value) { total->special_ += value; }
uint64_t* SumAccess::limbs(PartialSum* total) { return total->limbs_; }

bool SumAccess::is_valid(const PartialSum& sum) {
  if (sum.fast_terms_ > sum.count_) return false;
  if (!(sum.special_ == 0 || std::isnan(sum.special_) || sum.special_ == INFINITY)) return false;
  // The fast part. An error that is not finite means that squares of float64 have overflowed.
  if (!(sum.high_ >= 0 && std::isfinite(sum.high_)) || sum.error_ < 0) return false;
  if (std::isfinite(sum.error_) && !std::isfinite(sum.low_)) return false;
  if (sum.fast_terms_ == 0 && (sum.high_ != 0 || sum.low_ != 0 || sum.error_ != 0)) return false;
  // The exact part: each square is less than 2^2048, so their sum divided by that is less than their number.
  constexpr int kTop = 2048 - PartialSum::kLowestBit, kLimb = kTop / 64, kBit = kTop % 64;
  static_assert(kLimb + 3 == PartialSum::kLimbs && kBit > 0);
  const uint64_t* limbs = sum.limbs_;
  const uint64_t quotient = limbs[kLimb] >> kBit | limbs[kLimb + 1] << (64 - kBit);
  if (limbs[kLimb + 1] >> kBit != 0 || limbs[kLimb + 2] != 0) return false;
  const uint64_t exact_terms = sum.count_ - sum.fast_terms_;
  if (exact_terms == 0)
    return std::all_of(limbs, limbs + PartialSum::kLimbs, [](uint64_t x) { return x == 0; });
  return quotient < exact_terms;
}

void PartialSum::merge(const PartialSum& other) noexcept {
  const FloatEnvironment environment;
  const uint64_t count = count_ + other.count_;
  const uint64_t fast_terms = fast_terms_ + other.fast_terms_;
  special_ += other.special_;
  if (other.fast_terms_ != 0) {
    const RowSum row{other.high_, other.low_, other.error_, false};
    SumAccess::add_fast(this, row, 0);
  }
  if (other.count_ != other.fast_terms_) {
    uint64_t copy[kLimbs];  // other may be *this
    for (int i = 0; i < kLimbs; ++i) copy[i] = other.limbs_[i];
    FixedPoint(limbs_).add(FixedPoint(copy));
  }
  count_ = count;
  fast_terms_ = fast_terms;
}

double PartialSum::bound() const { return (error_ + kUnit * std::fabs(high_ + low_)) * kSlack; }

bool PartialSum::finish(Reduction reduction, DType dtype, void* out) const noexcept {
  const FloatEnvironment environment;
  if (reduction != Reduction::kMean && reduction != Reduction::kSum) return false;
  const bool mean = reduction == Reduction::kMean;
  const uint64_t divisor = mean ? count_ : 1;
  if (divisor == 0) {
    store_exact(NAN, dtype, out);
    return true;
  }
  // If the bound is infinite, a NaN difference may be hidden behind this infinity.
  if (special_ != 0 && (std::isnan(special_) || std::isfinite(error_))) {
    store_exact(special_, dtype, out);
    return true;
  }
  const FixedPoint exact_part(const_cast<uint64_t*>(limbs_));
  if (exact()) {
    store_exact(exact_part.divide_and_round(divisor, dtype), dtype, out);
    return true;
  }
  double high, low, exact_high = 0, exact_low = 0;
  if (count_ != fast_terms_) exact_part.to_double_double(&exact_high, &exact_low);
  const double residual = two_sum(high_, exact_high, &high);
  low = low_ + (residual + exact_low);
  double error =
      (error_ + 8 * kUnit * (std::fabs(low_) + std::fabs(residual) + std::fabs(exact_low))) * kSlack;
  if (mean) {
    const double n = static_cast<double>(count_);
    if (count_ > uint64_t{1} << 53) return false;
    // high / n = quotient + remainder / n with an exact remainder; an underflow loses less than the smallest
    // subnormal.
    const double quotient = high / n, remainder = std::fma(-quotient, n, high);
    const double correction = (remainder + low) / n;
    error = (error / n + 4 * kUnit * (std::fabs(correction) + (std::fabs(remainder) + std::fabs(low)) / n)) *
                kSlack +
            4 * std::numeric_limits<double>::denorm_min();
    high = quotient;
    low = correction;
  }
  if (!std::isfinite(error) || !std::isfinite(high)) return false;
  // The true value lies in [high + (low - error), high + (low + error)]. Rounding is monotone, so it is
  // decided if both ends round to the same value.
  double first = high + below(low - error), last = high + above(low + error);
  if (dtype != DType::kFloat64) {  // the ends are rounded already: widen the interval before rounding again
    const Format format = format_of(dtype);
    if (!std::isfinite(last)) return false;
    first = round_to(format, below(first));
    last = round_to(format, above(last));
  }
  first = std::fmax(first, 0);
  if (first != last) return false;
  store_exact(first, dtype, out);
  return true;
}

}  // namespace mseloss
