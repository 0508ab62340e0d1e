// Variants of the kernels with one seeded defect each; defects.py writes them.
#pragma once

#include "cuda/model/model.h"

namespace battery {

struct Defect {
  Defect(const char* given_name, void (*given_fill)(mseloss::cuda::model::Table*));
  const char* name;
  void (*fill)(mseloss::cuda::model::Table*);
  const Defect* next;
};

}  // namespace battery
