// Kernels in C++ of the operators that graphs compiled by PyTorch call (mseloss/torch/step_operators.py).
#pragma once

namespace mseloss::python {

// Registers the kernels with PyTorch's dispatcher, once. False if this PyTorch's stable C interface lacks
// what they need, as before 2.11; the operators then run in Python.
bool register_torch_kernels() noexcept;

}  // namespace mseloss::python
