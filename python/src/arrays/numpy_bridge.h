// NumPy's C API for the rest of the module, without NumPy's headers.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <optional>
#include <span>

#include "mseloss/mseloss.h"

namespace mseloss::python {

// False until someone imports NumPy; importing mseloss does not import it.
bool is_numpy_array(PyObject* object);
bool is_numpy_scalar(PyObject* object);
bool is_numpy_integer(PyObject* object);            // a scalar: numpy.int64, numpy.bool, ...
PyObject* numpy_integer_to_int(PyObject* integer);  // a new Python int
PyObject* numpy_scalar_to_array(PyObject* scalar);  // a new 0-dimensional array

// numpy.asarray(object) as a new reference, or null with an error set. Imports NumPy. A list or tuple of
// Python ints becomes an array of float64.
PyObject* numpy_asarray(PyObject* object);
// 1 if the array is a numpy.ma.MaskedArray with a masked element, else 0; -1 with an error set on failure.
int numpy_has_mask(PyObject* array);
// The DType that numpy.dtype(object) names. Imports NumPy.
std::optional<DType> numpy_find_dtype(PyObject* object);

struct NumpyView {
  void* data;
  const Py_ssize_t* shape;
  const Py_ssize_t* strides;  // in bytes
  int rank;
  bool writable, supported;
  bool exact;       // not an instance of a subclass of numpy.ndarray
  DType dtype;      // valid if `supported`
  PyObject* descr;  // numpy.dtype, borrowed
};
NumpyView numpy_view(PyObject* array);

// A new writable array with strides in elements. Its memory is NumPy's own if `data` is null, else `data`,
// which `owner` (a stolen reference) keeps alive. Imports NumPy.
PyObject* new_numpy_array(int rank, const int64_t* shape, const int64_t* strides, DType dtype,
                          void* data = nullptr, PyObject* owner = nullptr);
void numpy_set_read_only(PyObject* array);
// A new one-dimensional array. Imports NumPy.
PyObject* new_numpy_int32(size_t count, int32_t** data);
// The elements of a one-dimensional, contiguous array of int32; null data for any other object.
std::span<const int32_t> numpy_int32(PyObject* array);
PyObject* numpy_array_to_scalar(PyObject* array);  // steals a 0-dimensional array

}  // namespace mseloss::python
