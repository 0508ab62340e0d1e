// PartialSum, and what the sweeps add to it.
#include "mseloss/partial_sum.h"

#include <algorithm>
#include <cmath>

#include "numerics/float_environment.h"
#include "numerics/rounding_test.h"

namespace mseloss {

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
    add_row(to, {from.high, from.low, from.error, true});
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
  const auto is_bounded = [&](const uint64_t* limbs, int top) {
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
  return is_bounded(sum.limbs_[0], weighted ? 3 * 1024 : 2 * 1024) && is_bounded(sum.limbs_[1], 1024);
}

void PartialSum::merge(const PartialSum& other) noexcept {
  const FloatEnvironment environment;
  SumAccess::merge({&state_, limbs_[0]}, other.state_, other.limbs_[0]);
}

double PartialSum::bound() const {
  return (state_.squares.error + kUnit * std::fabs(state_.squares.high + state_.squares.low)) * kSlack;
}

bool SumAccess::finish(const SumState& state, const uint64_t* limbs, Reduction reduction, DType dtype,
                       void* out) {
  const FloatEnvironment environment;
  uint64_t work[kFinishWork];
  double result;
  if (!finish_sum<false>(state, limbs, reduction, dtype, work, &result)) return false;
  store_exact(result, dtype, out);
  return true;
}

bool PartialSum::finish(Reduction reduction, DType dtype, void* out) const noexcept {
  return SumAccess::finish(state_, limbs_[0], reduction, dtype, out);
}

bool SumAccess::scale(const SumState& state, const uint64_t* limbs, uint64_t copies, DType dtype,
                      double* scale) {
  const FloatEnvironment environment;
  uint64_t work[kFinishWork];
  return finish_scale<false>(state, limbs, copies, dtype, work, scale);
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
    uint64_t work[kFinishWork], divisor[kLimbs];
    exact_divisor(state_, limbs_[1], divisor);
    *scale = two_over(FixedPoint(divisor), 1, compute, work);
  } else {
    Interval divisor;
    return fast_divisor<false>(state_, limbs_[0], &divisor) && two_over(divisor, compute, scale);
  }
  return true;
}

}  // namespace mseloss
