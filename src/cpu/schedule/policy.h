// How many threads run a plan, and with which kind of stores.
#pragma once

#include <bit>

#include "plan/plan.h"

namespace mseloss::cpu {

// A shift by it replaces a division by size_of(dtype), which a call on a few elements would notice.
inline int log2_size_of(DType dtype) { return std::countr_zero(static_cast<unsigned>(size_of(dtype))); }

// The number of threads that are worth starting, at most as many as the options allow.
int thread_count(const Plan& plan, const Options& options);

// Whether the output uses non-temporal stores.
bool uses_non_temporal_stores(const Plan& plan, const Options& options);

}  // namespace mseloss::cpu
