// A partial sum of squared differences, with or without weights: add parts of the data, merge partial sums in
// any order, finish once.
#ifndef MSELOSS_PARTIAL_SUM_H_
#define MSELOSS_PARTIAL_SUM_H_

#include <cstdint>
#include <span>

#include "mseloss/types.h"

namespace mseloss {

namespace internal {

// An unevaluated sum high + low with an absolute bound on its error. `special` is 0 or the sum of the
// non-finite terms: an infinity or NaN.
struct FastSum {
  double high = 0, low = 0, error = 0, special = 0;
};

struct SumState {
  uint64_t count = 0;       // elements of weight 1: without a weight, or selected by a mask
  uint64_t weighted = 0;    // elements with a weight
  uint64_t fast_terms = 0;  // those of both that are in the fast sums
  FastSum squares;          // the fast part of sum(w * d^2), with w = 1 for the elements of `count`
  FastSum weights;          // the fast part of sum(w) over the weighted elements
};

}  // namespace internal

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
  // unchanged. With Options::device kCuda the operands are in device memory; the device sums them on
  // Options::stream, and the call waits for that stream, because this object is in host memory.
  Status add(const ConstTensor& input, const ConstTensor& target, Mode mode, const Options& options = {});
  // Adds sum(weight * (input - target)^2), and sum(weight) to the divisor of the mean; if weight is bool,
  // only the elements where it is true. Same errors as loss() with a weight.
  Status add(const ConstTensor& input, const ConstTensor& target, const ConstTensor& weight, Mode mode,
             const Options& options = {});
  void merge(const PartialSum& other) noexcept;

  // For the gradient of data in parts: its scale is that of the whole.
  //
  //   for (each part) whole.add_divisor(x, y, nullptr, mode);
  //   double scale;  // after the merge of all parts:
  //   whole.scale(Reduction::kMean, dtype, &scale);
  //   for (each part) part.add_with_grad(x, y, nullptr, scale, &one, dx);
  //
  // `weight` is null for none.

  // Adds the elements, or their weights, to the divisor of the mean, and nothing to the sum; without a weight
  // nothing is read. Same errors as add().
  Status add_divisor(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
                     Mode mode, const Options& options = {});
  // Sets *scale to 2 for kSum and for kMean to 2 / divisor, rounded once to the compute dtype of inputs of
  // `dtype`; 0 without elements. Returns false if the fast sum of the weights cannot decide the rounding or
  // reduction is kNone.
  bool scale(Reduction reduction, DType dtype, double* scale) const noexcept;
  // Adds as add() with kFast, and in the same sweep writes grad_input = ((input - target) * scale) *
  // (weight * grad_output), with the rules and errors of loss_and_grad() for kSum. If grad_input is one of
  // the inputs, these cannot be added again with kExact. On a CUDA device grad_output and grad_input are in
  // device memory too.
  Status add_with_grad(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
                       double scale, const ConstTensor& grad_output, const Tensor& grad_input,
                       const Options& options = {});

  // Writes the correctly rounded sum, divided by the sum of the weights for kMean, to the element `out` of
  // type `dtype`. An element without a weight has weight 1. Empty: sum 0, mean NaN. Returns false and writes
  // nothing if the fast sum cannot decide the rounding or reduction is kNone.
  bool finish(Reduction reduction, DType dtype, void* out) const noexcept;

  // Digits: the sum as int32 words that integer sums of any kind may add (MPI_SUM, an all-reduce, a loop).
  // The elementwise sum of up to kMaxArrays arrays, in any order, is an array of the merged sum: merging adds
  // no rounding, and processes that add the same arrays hold equal sums and decide alike in finish(). The
  // words do not depend on the byte order. docs/numerics.md describes the format, which has a version.
  //
  // `dtype` is the promoted dtype of input and target, the same for all arrays. float64 is possible for every
  // sum; float32, float16 and bfloat16 need fewer words.
  static constexpr int kMaxArrays = 32767;
  static constexpr int digit_count(DType dtype) { return dtype == DType::kFloat64 ? 572 : 117; }
  // Writes digit_count(dtype) words. Errors: kShape for another number of elements; kDType for kBool, or if
  // the sum has float64 inputs and dtype is another one. Writes nothing then.
  Status encode(DType dtype, std::span<int32_t> digits) const noexcept;
  // Replaces this sum by that of the words. It is exact if all encoded sums were. Errors: kShape; kDigits for
  // words that no sum of arrays has: of more arrays, of several dtypes, of another version. On an error *this
  // is unchanged.
  Status decode(std::span<const int32_t> digits) noexcept;

  // Elements added so far, without those that a mask left out.
  uint64_t count() const { return state_.count + state_.weighted; }
  bool exact() const { return state_.fast_terms == 0; }  // every part was added with kExact
  double fast_sum() const { return state_.squares.high + state_.squares.low; }
  double bound() const;  // |fast_sum() - exact sum| <= bound(), if finite

  // Fixed point, two's complement, little-endian limbs. Bit 0 has weight 2^kLowestBit, the smallest product
  // of three float64.
  static constexpr int kLimbs = 100;
  static constexpr int kLowestBit = -3222;

 private:
  friend struct SumAccess;

  internal::SumState state_;
  uint64_t limbs_[2][kLimbs] = {};  // the exact parts of sum(w * d^2) and of the sum of weights
};

}  // namespace mseloss

#endif  // MSELOSS_PARTIAL_SUM_H_
