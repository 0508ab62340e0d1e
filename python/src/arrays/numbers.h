// Python numbers as elements.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "mseloss/mseloss.h"

namespace mseloss::python {

// Stores a Python int or float (or an instance of a subclass), rounded once to nearest even in `dtype`, at
// `out`. As in IEEE 754, numbers beyond the range round to infinity, ints too.
void store_number(PyObject* number, DType dtype, void* out);

}  // namespace mseloss::python
