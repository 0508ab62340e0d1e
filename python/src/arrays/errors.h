// Raises Python errors as C++ exceptions.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace mseloss::python {

[[noreturn]] void raise_current();  // throws the Python error that is set
[[noreturn]] void raise(PyObject* exception, const char* format, ...);

}  // namespace mseloss::python
