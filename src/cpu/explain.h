// How the CPU backend would run a plan, as text for explain().
#pragma once

#include <string>

#include "plan/plan.h"

namespace mseloss::cpu {

std::string explain(const Plan& plan, const Options& options);

}  // namespace mseloss::cpu
