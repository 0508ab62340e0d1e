// The exact accumulator: a two's complement fixed-point integer in 64-bit limbs; bit 0 has weight
// 2^kLowestBit. Addition is associative, so the result does not depend on the order of terms. 68 limbs hold
// the sum of 2^63 squares of any float64.
#pragma once

#include <cstdint>

#include "mseloss/partial_sum.h"

namespace mseloss {

class FixedPoint {
 public:
  static constexpr int kLimbs = PartialSum::kLimbs;
  static constexpr int kLowestBit = PartialSum::kLowestBit;

  explicit FixedPoint(uint64_t* limbs) : limbs_(limbs) {}  // kLimbs limbs, owned by the caller

  void add(double value);         // finite
  void add_square(double value);  // value * value, without rounding; finite
  void add(const FixedPoint& other);

  // The value as an unevaluated sum high + low, with a relative error of at most 2^-100.
  void to_double_double(double* high, double* low) const;

  // The value divided by `divisor` (>= 1), rounded once to `dtype`. The value must be >= 0.
  double divide_and_round(uint64_t divisor, DType dtype) const;

 private:
  void add_at(uint64_t low, uint64_t high, int bit, bool negative);

  uint64_t* limbs_;
};

}  // namespace mseloss
