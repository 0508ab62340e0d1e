// The exact accumulator: a two's complement fixed-point integer in 64-bit limbs; bit 0 has weight
// 2^kLowestBit. Addition is associative, so the result does not depend on the order of terms. 100 limbs hold
// the sum of 2^63 products of any three float64.
#pragma once

#include <cstdint>

#include "mseloss/partial_sum.h"

namespace mseloss {

class FixedPoint {
 public:
  static constexpr int kLimbs = PartialSum::kLimbs;
  static constexpr int kLowestBit = PartialSum::kLowestBit;

  explicit FixedPoint(uint64_t* limbs) : limbs_(limbs) {}  // kLimbs limbs, owned by the caller

  void add(double value);                         // finite
  void add_square(double value);                  // value * value, without rounding; finite
  void add_product(double weight, double value);  // weight * value * value, without rounding; finite
  void add_integer(uint64_t value);
  void add(const FixedPoint& other);
  void multiply(uint64_t factor);  // by at least 1; the value must be >= 0

  int sign() const;  // -1, 0, 1
  // Sets `magnitude` to the absolute value.
  void magnitude(uint64_t* magnitude) const;

  // The value as an unevaluated sum high + low, with a relative error of at most 2^-100.
  void to_double_double(double* high, double* low) const;

  // The value divided by `divisor` (>= 1), rounded once to `dtype`.
  double divide_and_round(uint64_t divisor, DType dtype) const;
  // The same for another value as divisor. Division by 0 gives NaN for 0, else an infinity with this value's
  // sign. An exact zero is +0.
  double divide_and_round(const FixedPoint& divisor, DType dtype) const;

 private:
  void add_at(const uint64_t* words, int count, int bit, bool negative);

  uint64_t* limbs_;
};

}  // namespace mseloss
