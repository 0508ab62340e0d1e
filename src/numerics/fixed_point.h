// The exact accumulator: a two's complement fixed-point integer in 64-bit limbs; bit 0 has weight
// 2^kLowestBit. Addition is associative, so the result does not depend on the order of terms. 100 limbs hold
// the sum of 2^63 products of any three float64.
#pragma once

#include <cstdint>

#include "mseloss/partial_sum.h"
#include "numerics/host_device.h"

namespace mseloss {

class FixedPoint {
 public:
  static constexpr int kLimbs = PartialSum::kLimbs;
  static constexpr int kLowestBit = PartialSum::kLowestBit;
  // Limbs of memory that divide_and_round() needs. The caller provides it, because a CUDA kernel must not
  // have arrays on its stack.
  static constexpr int kWork = 2 * (kLimbs + 1);

  MSELOSS_HOST_DEVICE explicit FixedPoint(uint64_t* limbs)
      : limbs_(limbs) {}  // kLimbs limbs, owned by the caller

  // Finite values, without rounding: value, and weight * value * value.
  MSELOSS_HOST_DEVICE void add(double value);
  MSELOSS_HOST_DEVICE void add_product(double weight, double value);
  MSELOSS_HOST_DEVICE void add_integer(uint64_t value);
  MSELOSS_HOST_DEVICE void add(const FixedPoint& other);
  MSELOSS_HOST_DEVICE void multiply(uint64_t factor);  // by at least 1; the value must be >= 0

  MSELOSS_HOST_DEVICE int sign() const;  // -1, 0, 1
  // Sets `magnitude` to the absolute value.
  MSELOSS_HOST_DEVICE void magnitude(uint64_t* magnitude) const;

  // The value as an unevaluated sum high + low, with a relative error of at most 2^-100.
  MSELOSS_HOST_DEVICE void to_double_double(double* high, double* low) const;

  // The value divided by `divisor` (>= 1), rounded once to `dtype`.
  MSELOSS_HOST_DEVICE double divide_and_round(uint64_t divisor, DType dtype, uint64_t* work) const;
  // The same for another value as divisor. Division by 0 gives NaN for 0, else an infinity with this value's
  // sign. An exact zero is +0.
  MSELOSS_HOST_DEVICE double divide_and_round(const FixedPoint& divisor, DType dtype, uint64_t* work) const;

 private:
  MSELOSS_HOST_DEVICE void add_at(const uint64_t* words, int count, int bit, bool negative);

  uint64_t* limbs_;
};

}  // namespace mseloss
