#pragma once

#include <vector>

#include "model/run.h"

namespace ascend_tests {

struct Mutant {
  const char* name;
  ascend_model::Operator op;
};
std::vector<const Mutant*> AllMutants();

}  // namespace ascend_tests
