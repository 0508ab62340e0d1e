// The exact accumulator: a two's complement integer of 64-bit limbs whose bit 0 weighs 2^kLowestBit. Its
// addition is associative, so the order of terms cannot matter. 68 limbs hold 2^63 squares of any float64.
#pragma once

#include <cstdint>

#include "mseloss/partial_sum.h"

namespace mseloss {

class FixedPoint {
 public:
  static constexpr int kLimbs = PartialSum::kLimbs;
  static constexpr int kLowestBit = PartialSum::kLowestBit;

  explicit FixedPoint(uint64_t* limbs) : limbs_(limbs) {}  // kLimbs of them, owned by the caller

  void add(double value);         // finite
  void add_square(double value);  // value * value, without rounding; finite
  void add(const FixedPoint& other);

  // The unevaluated sum high + low nearest to the value, within 2^-100 of it, relative.
  void to_double_double(double* high, double* low) const;

  // The value, divided by `divisor` (>= 1), rounded once to the format; value >= 0.
  double divide_and_round(uint64_t divisor, DType dtype) const;

 private:
  void add_at(uint64_t low, uint64_t high, int bit, bool negative);

  uint64_t* limbs_;
};

}  // namespace mseloss
