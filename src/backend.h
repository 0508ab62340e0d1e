// The interface of a backend, which runs the sweeps of a plan on one kind of device: it divides the work and
// owns threads, launches and streams.
#pragma once

#include "mseloss/partial_sum.h"
#include "plan/plan.h"

namespace mseloss {

// The results of one sweep over the elements.
enum class Sweep : uint8_t {
  kGrad,
  kLoss,         // elementwise
  kGradAndLoss,  // the gradient and the elementwise loss
  kFastSum,
  kExactSum,
  kGradAndSum,  // the gradient and the fast sum
};

struct Backend {
  const char* name;
  // Runs the sweep to completion; sums are added to *sum. On an error nothing is written.
  Status (*run)(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
                PartialSum* sum);
};

namespace cpu {
extern const Backend kBackend;
}

// The backend that runs a plan.
inline const Backend& backend_for(const Plan&, const Buffers&) {
  return cpu::kBackend;
}  // the only one so far

}  // namespace mseloss
