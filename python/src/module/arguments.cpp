#include "module/arguments.h"

#include <cstring>

#include "arrays/dtypes.h"

namespace mseloss::python {

namespace nb = nanobind;

void raise_status(const Status& status) {
  PyObject* exception = PyExc_ValueError;
  if (status.code() == Code::kDType) exception = PyExc_TypeError;
  if (status.code() == Code::kOutOfMemory) exception = PyExc_MemoryError;
  PyErr_SetString(exception, status.message());
  raise_current();
}

Reduction parse_reduction(nb::handle name) {
  if (PyUnicode_Check(name.ptr())) {
    if (PyUnicode_CompareWithASCIIString(name.ptr(), "mean") == 0) return Reduction::kMean;
    if (PyUnicode_CompareWithASCIIString(name.ptr(), "sum") == 0) return Reduction::kSum;
    if (PyUnicode_CompareWithASCIIString(name.ptr(), "none") == 0) return Reduction::kNone;
  }
  raise(PyExc_ValueError, "reduction: expected 'none', 'mean' or 'sum', got %R", name.ptr());
}

DType parse_dtype(nb::handle given) {
  PyObject* object = given.ptr();
  nb::object text;
  if (PyUnicode_Check(object)) {
    text = nb::borrow(given);
  } else if (object == reinterpret_cast<PyObject*>(&PyFloat_Type)) {
    return DType::kFloat64;
  } else if (PyType_Check(object)) {  // numpy.float32, ml_dtypes.bfloat16
    text = given.attr("__name__");
  } else if (nb::hasattr(given, "dtype")) {  // jax.numpy.float32
    text = given.attr("dtype").attr("name");
  } else {  // numpy.dtype("float32"), torch.float32
    text = nb::str(given);
  }
  const char* name = PyUnicode_AsUTF8(text.ptr());
  if (name == nullptr) raise_current();
  if (std::strncmp(name, "torch.", 6) == 0) name += 6;
  for (const DType dtype : kDTypes) {
    if (std::strcmp(name, name_of(dtype)) == 0) return dtype;
  }
  raise(PyExc_TypeError, "dtype: expected %s, got %R", kDTypeNames, object);
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  return a == DType::kFloat64 || b == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

}  // namespace mseloss::python
