// The interface of a backend, which runs the sweeps of a plan on one kind of device: it divides the work and
// owns threads, launches and streams.
#pragma once

#include "numerics/sum_access.h"
#include "plan/plan.h"

namespace mseloss {

// The results of one sweep over the elements, with the plan's weights if it has any.
enum class Sweep : uint8_t {
  kGrad,
  kLoss,         // elementwise
  kGradAndLoss,  // the gradient and the elementwise loss
  kFastSum,
  kExactSum,
  kGradAndSum,  // the gradient and the fast sum
  kCountMask,  // of a dense mask, which is the only operand and the plan's dtype: the number of true elements
  kSliceSums,  // of a sliced plan: the fast sums of all slices, rounded
  kGradAndSliceSums,
};

struct Backend {
  const char* name;
  // Runs the sweep to completion; sums are added to `sum`, which other sweeps ignore. The sums of slices are
  // written to kLossOut and added to nothing; where a fast sum cannot decide the rounding, the element
  // becomes store_pending(), and sum.state->count is the number of these elements. On an error nothing is
  // written.
  Status (*run)(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
                const SumTarget& sum);
};

namespace cpu {
extern const Backend kBackend;
}

// The backend that runs a plan.
inline const Backend& backend_for(const Plan&, const Buffers&) {
  return cpu::kBackend;
}  // the only one so far

}  // namespace mseloss
