// Python errors as C++ exceptions, which nanobind turns back at the module's boundary.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

namespace mseloss::python {

// Throws the Python error that is set.
[[noreturn]] void raise_current();
// Sets `exception` with a message in the format of PyErr_Format, and throws it.
[[noreturn]] void raise(PyObject* exception, const char* format, ...);

}  // namespace mseloss::python
