#include "arrays/errors.h"

#include <nanobind/nanobind.h>

#include <cstdarg>

namespace mseloss::python {

void raise(PyObject* exception, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  PyErr_FormatV(exception, format, arguments);
  va_end(arguments);
  raise_current();
}

void raise_current() { throw nanobind::python_error(); }

}  // namespace mseloss::python
