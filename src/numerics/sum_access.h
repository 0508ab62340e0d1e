// The operations of the sweeps on a sum, and the constants of its error bound (proof in docs/numerics.md).
#pragma once

#include <cstdint>

#include "mseloss/partial_sum.h"
#include "numerics/host_device.h"

namespace mseloss {

using internal::FastSum;
using internal::SumState;

inline constexpr double kUnit = 0x1p-53;       // unit roundoff of float64
inline constexpr double kSlack = 1 + 0x1p-20;  // covers second-order terms and the bound's own roundings

// Knuth's TwoSum: *sum = round(a + b). Returns the rounding error exactly, barring overflow.
MSELOSS_HOST_DEVICE inline double two_sum(double a, double b, double* sum) {
  const double s = a + b, bb = s - a;
  *sum = s;
  return (a - (s - bb)) + (b - bb);
}

// The fast sum of a row block: |high + low - exact sum of the terms| <= error.
struct RowSum {
  double high = 0, low = 0, error = 0;
  bool may_overflow = false;  // squares of float64: a non-finite high does not imply a non-finite term
};

struct WeightedRowSum {
  RowSum squares;  // w * d^2
  RowSum weights;  // w; with a mask, weights.high is the exact number of elements that it selects
};

// The destination of a sweep's sums: `limbs` are those of a PartialSum (2 * kLimbs), null for a fast sweep.
struct SumTarget {
  SumState* state = nullptr;
  uint64_t* limbs = nullptr;
};

struct SumAccess {
  static void add_fast(SumState* total, const RowSum& row, uint64_t terms);
  static void add_fast(SumState* total, const WeightedRowSum& row, uint64_t terms, bool masked);
  static void merge(const SumTarget& total, const SumState& other, const uint64_t* other_limbs);
  static SumTarget target(PartialSum* sum) { return {&sum->state_, sum->limbs_[0]}; }
  // PartialSum::finish(); `limbs` may be null if every term is in the fast sum.
  static bool finish(const SumState& state, const uint64_t* limbs, Reduction reduction, DType dtype,
                     void* out);
  // 2 / (copies * sum), rounded once to `dtype`, where the sum is that of finish() with kSum. Returns false
  // if the fast sum cannot decide the rounding.
  static bool scale(const SumState& state, const uint64_t* limbs, uint64_t copies, DType dtype,
                    double* scale);
  // Whether add() and merge() can produce this state; for deserialised bytes.
  static bool is_valid(const PartialSum& sum);
};

}  // namespace mseloss
