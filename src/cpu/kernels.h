// The kernels' tables: one per instruction-set target, filled by code that is written once
// (docs/architecture.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "mseloss/types.h"
#include "numerics/sum_access.h"

namespace mseloss::cpu {

// One run of n elements. Assumed, and checked by the plan:
// - every pointer leads to n elements of the kernel's dtype, or, where steps[i] is 0, to one that stands for
// all;
// - out is dense, and is one of the inputs exactly or overlaps none; no pointer need be aligned;
// - scale is exact in the compute dtype.
struct Row {
  const void* in[3];  // grad_output, input, target; grad_output is unused by the loss
  bool moves[3];      // false: one element for the whole run
  void* out;          // grad_input, or the elementwise loss; unused by the sum
  size_t n;
  double scale;
};

inline constexpr int kDTypes = 4;  // indexed by DType

struct Kernels {
  // out = ((input - target) * scale) * grad_output; [1] writes past the caches.
  void (*grad[kDTypes][2])(const Row&);
  // out = (input - target)^2
  void (*loss[kDTypes])(const Row&);
  // The fast sum of (input - target)^2; n is at most kSumBlock.
  void (*sum[kDTypes])(const Row&, RowSum*);
  // grad and sum in one sweep, of one grad_output for all.
  void (*grad_sum[kDTypes][2])(const Row&, RowSum*);
  // The exact sum into limbs; non-finite differences are added to *special instead.
  void (*exact_sum[kDTypes])(const Row&, uint64_t* limbs, double* special);
  // to[i] = from[i], rounded once; [from][to].
  void (*convert[kDTypes][kDTypes])(const void* from, void* to, size_t n);
  // to[i * to_stride + j] = from[j * from_stride + i], i < rows, j < columns; strides in elements; by
  // log2(size) - 1.
  void (*transpose[3])(const void* from, ptrdiff_t from_stride, void* to, ptrdiff_t to_stride, size_t rows,
                       size_t columns, bool stream);
};

// Short enough for the sum's bound to stay small, long enough for its fixed costs to vanish.
inline constexpr size_t kSumBlock = 16384;

const Kernels& kernels();  // of the target in use

}  // namespace mseloss::cpu
