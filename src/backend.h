// The seam between the plan and the devices. A backend splits the work and owns threads, launches and
// streams.
#pragma once

#include "mseloss/partial_sum.h"
#include "plan/plan.h"

namespace mseloss {

// What one sweep over the elements produces.
enum class Sweep : uint8_t {
  kGrad,
  kLoss,      // elementwise
  kGradLoss,  // the gradient and the elementwise loss
  kFastSum,
  kExactSum,
  kGradSum,  // the gradient and the fast sum
};

struct Backend {
  const char* name;
  // Runs the sweep to its end; sums are added to *sum. On an error nothing was written.
  Status (*run)(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
                PartialSum* sum);
};

namespace cpu {
extern const Backend kBackend;
}

}  // namespace mseloss
