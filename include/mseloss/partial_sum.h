// A partial sum of squared differences: add parts of the data, merge partial sums in any order, finish once.
#ifndef MSELOSS_PARTIAL_SUM_H_
#define MSELOSS_PARTIAL_SUM_H_

#include <cstdint>

#include "mseloss/types.h"

namespace mseloss {

// Trivially copyable: it can be sent as bytes between threads, processes, or machines of the same byte order.
//
//   PartialSum total;                                  // empty
//   for (each part) { PartialSum p; p.add(x, y, Mode::kFast); total.merge(p); }
//   if (!total.finish(Reduction::kMean, dtype, out)) { /* repeat with kExact; finish() then succeeds */ }
//
// finish() returns the correctly rounded loss, so it has the same bits for any partition and any order. A
// fast sum decides the rounding unless the true value lies within its error bound of a rounding boundary
// (about one case in a million for float32, and every exact tie); then an exact sum is needed. A merged sum
// is exact if both parts are.
class MSELOSS_API PartialSum {
 public:
  enum class Mode : uint8_t { kFast, kExact };

  // Adds sum((input - target)^2) over the broadcast shape. Same errors as loss(); on an error *this is
  // unchanged.
  Status add(const ConstTensor& input, const ConstTensor& target, Mode mode, const Options& options = {});
  void merge(const PartialSum& other) noexcept;

  // Writes the correctly rounded sum, divided by count() for kMean, to the element `out` of type `dtype`.
  // Empty: sum 0, mean NaN. Returns false and writes nothing if the fast sum cannot decide the rounding or
  // reduction is kNone.
  bool finish(Reduction reduction, DType dtype, void* out) const noexcept;

  uint64_t count() const { return count_; }        // elements added so far
  bool exact() const { return fast_terms_ == 0; }  // every part was added with kExact
  double fast_sum() const { return high_ + low_; }
  double bound() const;  // |fast_sum() - exact sum| <= bound(), if finite

  // Fixed point, two's complement, little-endian limbs. Bit 0 has weight 2^kLowestBit, the smallest square of
  // a float64.
  static constexpr int kLimbs = 68;
  static constexpr int kLowestBit = -2148;

 private:
  friend struct SumAccess;

  uint64_t count_ = 0;
  uint64_t fast_terms_ = 0;      // elements whose squares are in high_ + low_
  double high_ = 0, low_ = 0;    // unevaluated sum of the fast part
  double error_ = 0;             // absolute bound on the fast part's error
  double special_ = 0;           // 0, infinity or NaN: the sum of the squares of non-finite differences
  uint64_t limbs_[kLimbs] = {};  // the exact part
};

}  // namespace mseloss

#endif  // MSELOSS_PARTIAL_SUM_H_
