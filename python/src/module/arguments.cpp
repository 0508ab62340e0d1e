#include "module/arguments.h"

#include <cstring>
#include <optional>

#include "arrays/dtypes.h"
#include "arrays/numpy_bridge.h"

namespace mseloss::python {

namespace nb = nanobind;

void raise_status(const Status& status) {
  PyObject* exception = PyExc_ValueError;
  if (status.code() == Code::kDType) exception = PyExc_TypeError;
  if (status.code() == Code::kOutOfMemory) exception = PyExc_MemoryError;
  raise(exception, "%s", status.message());
}

Reduction parse_reduction(nb::handle name) {
  if (PyUnicode_Check(name.ptr())) {
    if (PyUnicode_CompareWithASCIIString(name.ptr(), "mean") == 0) return Reduction::kMean;
    if (PyUnicode_CompareWithASCIIString(name.ptr(), "sum") == 0) return Reduction::kSum;
    if (PyUnicode_CompareWithASCIIString(name.ptr(), "none") == 0) return Reduction::kNone;
  }
  raise(PyExc_ValueError, "reduction: expected 'none', 'mean' or 'sum', got %R", name.ptr());
}

namespace {

// The name in "float32", numpy.float32, numpy.dtype("float32"), torch.float32 or jax.numpy.float32; null if
// the object has none.
Ref name_of_dtype(PyObject* given, Ref* refusal) {
  if (PyUnicode_Check(given)) return Ref(Py_NewRef(given));
  if (PyType_Check(given)) return find_attribute(given, "__name__", refusal);
  if (const Ref dtype = find_attribute(given, "dtype", refusal)) {
    return find_attribute(dtype.get(), "name", refusal);
  }
  Ref text(PyObject_Str(given));
  if (!text) note_refusal(refusal);
  return text;
}

}  // namespace

DType parse_dtype(nb::handle given) {
  PyObject* object = given.ptr();
  Ref refusal;
  if (const Ref text = name_of_dtype(object, &refusal); text && PyUnicode_Check(text.get())) {
    const char* name = PyUnicode_AsUTF8(text.get());
    if (name == nullptr) {
      note_refusal(&refusal);
      name = "";
    }
    if (std::strncmp(name, "torch.", 6) == 0) name += 6;
    for (const DType dtype : kDTypes) {
      if (std::strcmp(name, name_of(dtype)) == 0) return dtype;
    }
  }
  if (!given.is_none()) {  // which is float64 for NumPy
    if (const std::optional<DType> dtype = numpy_find_dtype(object)) return *dtype;  // "f4", float
  }
  raise(PyExc_TypeError, "dtype: expected %s, got %R", kDTypeNames, object);
}

}  // namespace mseloss::python
