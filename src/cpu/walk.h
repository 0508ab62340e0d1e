// The general layout: box by box, gathering into tiles what cannot be read in place.
#pragma once

#include "cpu/tiling.h"
#include "cpu/worker.h"

namespace mseloss::cpu {

// Bytes of scratch memory that one walk needs, 64-byte aligned.
size_t scratch_bytes(const Plan& plan, const Tiling& tiling);

// Boxes first..last-1 in row-major order. data[o] leads to operand o's element (0, ..., 0) of the plan's
// dimensions.
void walk(const Plan& plan, const Tiling& tiling, char* const* data, int64_t first, int64_t last,
          char* scratch, Worker* worker);

}  // namespace mseloss::cpu
