// The operations of the sweeps on a PartialSum, and the constants of its error bound (proof in
// docs/numerics.md).
#pragma once

#include <cstdint>

#include "mseloss/partial_sum.h"

namespace mseloss {

inline constexpr double kUnit = 0x1p-53;       // unit roundoff of float64
inline constexpr double kSlack = 1 + 0x1p-20;  // covers second-order terms and the bound's own roundings

// Knuth's TwoSum: *sum = round(a + b). Returns the rounding error exactly, barring overflow.
inline double two_sum(double a, double b, double* sum) {
  const double s = a + b, bb = s - a;
  *sum = s;
  return (a - (s - bb)) + (b - bb);
}

// The fast sum of a row block: |high + low - exact sum of the squares| <= error.
struct RowSum {
  double high = 0, low = 0, error = 0;
  bool squares_fit = true;  // squares cannot overflow, so a non-finite high means a non-finite difference
};

struct SumAccess {
  static void add_fast(PartialSum* total, const RowSum& row, uint64_t terms);
  static void add_exact(PartialSum* total, uint64_t terms);
  static void add_special(PartialSum* total, double value);
  static uint64_t* limbs(PartialSum* total);
  // Whether add() and merge() can produce this state; for deserialised bytes.
  static bool is_valid(const PartialSum& sum);
};

}  // namespace mseloss
