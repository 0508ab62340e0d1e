// PyTorch tensors as outputs: autograd has to know that the library writes to them.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace mseloss::python {

// Before writing to `object`. Raises RuntimeError, as PyTorch's out= does, for a tensor that requires grad
// while grad mode is enabled and for an inference tensor outside inference mode. Other objects pass.
void check_torch_output(PyObject* object, const char* name);

// After writing to `object`: a tensor's version counter is incremented, so that a backward pass that needs
// the old values raises an error. Does nothing for other objects.
void mark_torch_output_written(PyObject* object);

}  // namespace mseloss::python
