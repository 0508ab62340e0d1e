// mseloss: the mean-squared-error loss and its gradient for tensors of any layout, bitwise reproducible on
// every target, thread count and layout.
//
//   #include <mseloss/mseloss.h>
//   #include <cstdio>
//   int main() {
//     const int64_t shape[] = {2, 2};
//     float x[] = {1, 2, 3, 4}, y[] = {1, 1, 1, 1}, g = 1, dx[4];
//     auto status = mseloss::grad(&g, {x, shape}, {y, shape}, mseloss::Reduction::kMean, {dx, shape});
//     std::puts(status.ok() ? "ok" : status.message());  // dx = {0, 0.5, 1, 1.5}
//   }
//
// Every function is thread-safe, writes nothing if its arguments are invalid, and never throws, prints or
// exits. docs/operator.md has the definitions, docs/numerics.md the proofs.
#ifndef MSELOSS_MSELOSS_H_
#define MSELOSS_MSELOSS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "mseloss/partial_sum.h"
#include "mseloss/threads.h"
#include "mseloss/types.h"

namespace mseloss {

// grad_input = ((input - target) * scale) * grad_output. Each operation is rounded to nearest even in float32
// (float64 for float64 inputs); the result is rounded once to the inputs' dtype and then to grad_input's.
// scale is 2, for kMean 2 / numel(input), the count before broadcasting.
//
// - Inputs: one common dtype; shapes broadcast by NumPy's rule, rank 0 to 8, any strides.
// - grad_input: exactly the broadcast shape, any of the four dtypes. It may be exactly one of the inputs
//   (same address, strides and dtype) and must not overlap them otherwise.
// - Empty input: nothing is written.
// - Errors: kNullPointer, kDType, kReduction, kRank, kShape, kOverlap, kOutOfMemory; on a CUDA device also
//   kDevice: no device, memory that it cannot access, or a launch that failed.
MSELOSS_API Status grad(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                        Reduction reduction, const Tensor& grad_input, const Options& options = {});

// With d = input - target rounded to the compute dtype: kNone writes d * d elementwise; kSum writes the exact
// sum of the exact squares, rounded once; kMean that sum divided by the element count of the *broadcast*
// shape, rounded once. The compute dtype is float64 if an input is float64, else float32.
//
// - Inputs: dtypes may differ; shapes broadcast as for grad().
// - out: any of the four dtypes. For kNone exactly the broadcast shape, and it may be exactly one of the
//   inputs. For kMean and kSum either 0-dimensional, or of the broadcast rank: dimensions of extent 1 are
//   reduced, all others have the extent of the broadcast shape, and each element is the sum or mean of its
//   own slice. No other overlap.
// - Empty input: kNone writes nothing, kSum writes 0, kMean NaN.
// - Errors: as for grad().
MSELOSS_API Status loss(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                        const Tensor& out, const Options& options = {});

// The loss as above and its derivative with respect to the broadcast input, in one sweep where possible. For
// kMean scale is 2 / (element count of the broadcast shape).
//
// - Inputs: different dtypes are promoted first (float16 with bfloat16 to float32); grad_output must not be
//   wider than that. For kMean and kSum it broadcasts to the shape of `loss`, so it has one element for a
//   0-dimensional loss; for kNone it broadcasts with the other inputs.
// - loss: the shape of loss()'s `out`; overlaps nothing.
// - grad_input: the broadcast shape; it may be exactly one of the inputs, except for kNone.
// - Empty input and errors: as for loss().
MSELOSS_API Status loss_and_grad(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                                 const ConstTensor& grad_output, const Tensor& loss, const Tensor& grad_input,
                                 const Options& options = {});

// The same with a weight for each element, w. `weight` broadcasts with input and target (three-way).
//
// - kNone writes (d * d) * w, both products rounded in the compute dtype. kSum is the exact real value of
//   sum(w * d^2), rounded once; kMean is sum(w * d^2) / sum(w), both sums exact, the quotient rounded once.
//   sum(w) counts each weight as often as it is used. If sum(w) is 0, the mean is NaN, or an infinity with
//   the sign of a numerator that is not 0. An exact zero is +0.
// - The gradient is (d * scale) * (w * grad_output), every product rounded; scale is 2, for kMean 2 / sum(w)
//   rounded once to the compute dtype, also in grad().
// - weight: a dtype whose values the promoted dtype of input and target represents, or bool. Weights may be
//   negative. A bool weight is a mask: where it is false the element is left out, whatever its value; the
//   elementwise loss and the gradient are +0 there, and kMean divides by the number of true elements.
// - Everything else, including errors, as above.
MSELOSS_API Status grad(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                        const ConstTensor& weight, Reduction reduction, const Tensor& grad_input,
                        const Options& options = {});
MSELOSS_API Status loss(const ConstTensor& input, const ConstTensor& target, const ConstTensor& weight,
                        Reduction reduction, const Tensor& out, const Options& options = {});
MSELOSS_API Status loss_and_grad(const ConstTensor& input, const ConstTensor& target,
                                 const ConstTensor& weight, Reduction reduction,
                                 const ConstTensor& grad_output, const Tensor& loss, const Tensor& grad_input,
                                 const Options& options = {});

// Describes in one sentence how grad() would run with these operands: layout class, dimensions after
// coalescing, which operands are accessed directly and which are packed. For invalid arguments returns the
// error message.
MSELOSS_API std::string explain(const ConstTensor& grad_output, const ConstTensor& input,
                                const ConstTensor& target, Reduction reduction, const Tensor& grad_input,
                                const Options& options = {}) noexcept;

MSELOSS_API const char* version();

// The instruction-set target in use: "AVX3_BF16" (AVX-512 with bfloat16), "AVX3" (AVX-512), "AVX2", "SSE4",
// ... The default is the best one supported; the environment variable MSELOSS_TARGET, read once, or
// set_target() selects another.
MSELOSS_API const char* target();
// All targets that this processor supports, best first, separated by spaces.
MSELOSS_API const char* supported_targets();
// Null selects the best target. Error: kTarget if this processor does not support the target.
MSELOSS_API Status set_target(const char* name);
// The maximum number of threads per call: MSELOSS_NUM_THREADS, or the processors available to this process.
// Results do not depend on it.
MSELOSS_API int max_threads();
// Checks the two environment variables as they are now. A value that cannot be used is ignored by the
// functions above; this function says which and why. Error: kEnvironment.
MSELOSS_API Status check_environment();

}  // namespace mseloss

#endif  // MSELOSS_MSELOSS_H_
