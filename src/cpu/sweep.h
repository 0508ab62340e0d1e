// One sweep of the CPU backend over the elements of a plan.
#pragma once

#include "cpu/schedule/sweep_runner.h"
#include "plan/plan.h"

namespace mseloss::cpu {

// Runs the sweep to completion; sums are added to `sum`, which other sweeps ignore. The sums of slices are
// written to kLossOut and added to nothing; where a fast sum cannot decide the rounding, the element becomes
// store_pending(), and sum.state->count is the number of these elements. On an error other than kInterrupted
// nothing is written.
Status run_sweep(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
                 const SumTarget& sum);

}  // namespace mseloss::cpu
