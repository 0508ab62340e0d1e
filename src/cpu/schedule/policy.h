// How many threads run a plan, and with which kind of stores.
#pragma once

#include "plan/plan.h"

namespace mseloss::cpu {

// The number of threads that are worth starting, at most as many as the options allow.
int thread_count(const Plan& plan, const Options& options);

// Whether the output uses non-temporal stores.
bool uses_non_temporal_stores(const Plan& plan, const Options& options);

}  // namespace mseloss::cpu
