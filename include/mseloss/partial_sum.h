// A sum of squared differences, unfinished: made from a piece of the data, merged in any order, finished
// once.
#ifndef MSELOSS_PARTIAL_SUM_H_
#define MSELOSS_PARTIAL_SUM_H_

#include <cstdint>

#include "mseloss/types.h"

namespace mseloss {

// Trivially copyable: send it between threads, processes or machines of one byte order as bytes.
//
//   PartialSum total;                                  // of nothing
//   for (each piece) { PartialSum p; p.add(x, y, fast); total.merge(p); }
//   if (!total.finish(Reduction::kMean, out)) { ... the same once more with kExact; then finish() always
//   succeeds }
//
// The finished value is the correctly rounded loss, so it has the same bits for any partition and any order.
// A fast sum is decided unless the true value lies within the carried bound of a rounding boundary (about one
// case in a million for float32, and every exact tie); then only exact sums can tell. A merge is exact when
// both parts are.
class MSELOSS_API PartialSum {
 public:
  enum class Mode : uint8_t { kFast, kExact };

  // Adds sum((input - target)^2) over the broadcast shape. Errors as loss(); on error *this is unchanged.
  Status add(const ConstTensor& input, const ConstTensor& target, Mode mode, const Options& options = {});
  void merge(const PartialSum& other) noexcept;

  // Writes the correctly rounded sum, or that divided by count() for kMean, to the one element `out` of
  // `dtype`. False, and nothing written, when the fast sum cannot decide the rounding (or reduction is
  // kNone).
  bool finish(Reduction reduction, DType dtype, void* out) const noexcept;

  uint64_t count() const { return count_; }        // elements added so far
  bool exact() const { return fast_terms_ == 0; }  // every piece was added in kExact mode
  double fast_sum() const { return high_ + low_; }
  double bound() const;  // |fast_sum() - exact sum| <= bound(), while finite

  // Fixed point, two's complement, little-endian limbs: bit 0 weighs 2^kLowestBit, the smallest square of a
  // float64.
  static constexpr int kLimbs = 68;
  static constexpr int kLowestBit = -2148;

 private:
  friend struct SumAccess;

  uint64_t count_ = 0;
  uint64_t fast_terms_ = 0;      // elements whose squares are in high_ + low_
  double high_ = 0, low_ = 0;    // unevaluated sum of the fast part
  double error_ = 0;             // absolute bound on the fast part's error
  double special_ = 0;           // 0, infinity or NaN: what non-finite differences add up to
  uint64_t limbs_[kLimbs] = {};  // the exact part
};

}  // namespace mseloss

#endif  // MSELOSS_PARTIAL_SUM_H_
