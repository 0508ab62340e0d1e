// mseloss: the mean-squared-error loss and its gradient for tensors of any layout, with the same bits
// everywhere.
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
// Every function is thread-safe, writes nothing unless it succeeds in checking its arguments, and neither
// throws, prints nor exits. docs/operator.md has the definitions, docs/numerics.md the proofs.
#ifndef MSELOSS_MSELOSS_H_
#define MSELOSS_MSELOSS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "mseloss/partial_sum.h"
#include "mseloss/types.h"

namespace mseloss {

// grad_input = ((input - target) * scale) * grad_output, each operation rounded to nearest even in float32
// (float64 for float64), then once to the inputs' dtype, then to grad_input's. scale = 2; for kMean 2 /
// numel(input), the count before broadcasting. The three inputs share one dtype and broadcast by NumPy's
// rule, rank 0 to 8, any strides; grad_input has exactly the broadcast shape and any floating dtype. It may
// be exactly one of the inputs (same address, strides, dtype) and overlaps nothing else. Empty: nothing is
// written. Errors: kNullPointer, kDType, kReduction, kRank, kShape, kOverlap, kOutOfMemory.
MSELOSS_API Status grad(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                        Reduction reduction, const Tensor& grad_input, const Options& options = {});

// With d = input - target rounded to the compute dtype: kNone writes d * d, elementwise in the broadcast
// shape; kSum the exact sum of the exact squares, rounded once; kMean the same divided by the count of the
// *broadcast* shape. `out` is 0-dimensional for kMean and kSum, may be exactly one of the inputs for kNone,
// and overlaps nothing else. The dtypes may differ: compute dtype is float64 if any input is, else float32.
// Empty: sum 0, mean NaN.
MSELOSS_API Status loss(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                        const Tensor& out, const Options& options = {});

// Both in one sweep: `loss` as above, and its true derivative in `input`, in the broadcast shape: for kMean
// scale = 2 / (count of the broadcast shape). grad_output is one element (rank 0, or all extents 1) for kMean
// and kSum, and broadcasts with the others for kNone. Inputs of different dtypes are promoted first (float16
// + bfloat16: float32). `loss` overlaps nothing; grad_input may be exactly one of the inputs unless reduction
// is kNone.
MSELOSS_API Status loss_and_grad(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                                 const ConstTensor& grad_output, const Tensor& loss, const Tensor& grad_input,
                                 const Options& options = {});

// One sentence: how a gradient call with these operands would run (layout class, dimensions after coalescing,
// which operand is read directly and which through a tile), or its error.
MSELOSS_API std::string explain(const ConstTensor& grad_output, const ConstTensor& input,
                                const ConstTensor& target, Reduction reduction, const Tensor& grad_input,
                                const Options& options = {}) noexcept;

MSELOSS_API const char* version();
// The instruction-set target in use: "AVX3_BF16" (AVX-512 with bfloat16), "AVX3" (AVX-512), "AVX2", "SSE4",
// ..., and all that this processor can run, best first, separated by spaces. The environment variable
// MSELOSS_TARGET, read once, or set_target() choose another.
MSELOSS_API const char* target();
MSELOSS_API const char* supported_targets();
MSELOSS_API Status set_target(const char* name);  // null: the best one; kTarget when this processor cannot
// Most threads a call uses: MSELOSS_NUM_THREADS, else the processors this process may run on. Results never
// depend on it.
MSELOSS_API int max_threads();

}  // namespace mseloss

#endif  // MSELOSS_MSELOSS_H_
