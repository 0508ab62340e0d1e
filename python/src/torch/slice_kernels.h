// The kernels in C++ of the operators with weights and dimensions (mseloss/torch/slices/step_operators.py).
// Each returns null, or why it failed.
#pragma once

#include "torch/stable.h"

namespace mseloss::python {

const char* slices_value(TorchValue* stack);
const char* slices_step(TorchValue* stack);
const char* slices_step_backward(TorchValue* stack);

}  // namespace mseloss::python
