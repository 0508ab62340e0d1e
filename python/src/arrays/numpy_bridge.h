// What the rest of the module needs of NumPy and of types that export DLPack in C, without their headers.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "mseloss/mseloss.h"

namespace mseloss::python {

// False as long as nobody has imported NumPy: importing mseloss does not.
bool is_numpy_array(PyObject* object);
bool is_numpy_scalar(PyObject* object);
PyObject* numpy_scalar_to_array(PyObject* scalar);  // a new 0-dimensional array

struct NumpyView {
  void* data;
  const Py_ssize_t* shape;
  const Py_ssize_t* strides;  // in bytes
  int rank;
  bool writable, supported;
  DType element;    // if supported
  PyObject* dtype;  // borrowed
};
NumpyView numpy_view(PyObject* array);

// A new array: of NumPy's own memory when `data` is null, else on `data`, kept alive by `owner` (stolen).
// Strides in elements. Imports NumPy if nobody has.
PyObject* new_numpy_array(int rank, const int64_t* shape, const int64_t* strides, DType dtype, void* data,
                          PyObject* owner, void** array_data);
void numpy_set_read_only(PyObject* array);
PyObject* numpy_array_to_scalar(PyObject* array);  // steals a 0-dimensional array

// sys.modules[name], borrowed, or null without an error.
PyObject* loaded_module(const char* name);

}  // namespace mseloss::python
