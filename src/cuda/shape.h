// How the elements of a plan are distributed over blocks and threads.
#pragma once

#include <string>

#include "cuda/driver.h"

namespace mseloss::cuda {

// Reciprocal of an extent: floor(n / extent) for 0 <= n < 2^63.
Divisor make_divisor(int64_t extent);

// Scales that another kernel computes, in device memory: one, or one per slice.
struct Scales {
  uint64_t address = 0;           // 0: the plan has the scale
  int64_t stride[kMaxRank] = {};  // bytes, by dimension of the plan
};

// The loop nest and operands of a plan, for elementwise kernels and, with the kept dimensions first, for
// sums. `operands` is a mask; the others are absent.
ElementArguments element_arguments(const Plan& plan, const Buffers& buffers, unsigned operands,
                                   const Scales& scales);

// Whether the dense kernels can run the plan, or those for rows.
bool is_chunked(const Plan& plan, const Buffers& buffers, unsigned operands);
bool has_chunked_rows(const Plan& plan, const Buffers& buffers, unsigned operands);
DenseArguments dense_arguments(const Plan& plan, const Buffers& buffers, unsigned operands);

// The tile of a plan some of whose operands are contiguous along another dimension than the innermost. False
// if there are none, or if the dimensions are too short.
bool tile_arguments(const ElementArguments& element, TileArguments* tile);

// The distribution of a fast sum: fills in `shape`; returns the number of parts.
uint32_t shape_sum(const DeviceInfo& device, const Nest& nest, bool columns, SumShape* shape);
uint32_t shape_dense_sum(const DeviceInfo& device, const DenseArguments& dense, int lanes, SumShape* shape);
// Of an exact sum.
uint32_t shape_exact_sum(const DeviceInfo& device, const Nest& nest, int64_t* per_part);

// Which kernel runs an elementwise plan, in one sentence.
std::string explain(const Plan& plan, const Buffers& buffers);

// Blocks of a loop over `tiles`.
uint32_t blocks_for(const DeviceInfo& device, int64_t tiles);

}  // namespace mseloss::cuda
