#include "module/arguments.h"

#include <cstring>
#include <optional>

#include "arrays/dtypes.h"
#include "arrays/numpy_bridge.h"

namespace mseloss::python {

namespace nb = nanobind;

void raise_status(const Status& status) {
  if (status.code() == Code::kInterrupted) raise_current();  // the exception of a signal's handler
  PyObject* exception = PyExc_ValueError;
  if (status.code() == Code::kDType) exception = PyExc_TypeError;
  if (status.code() == Code::kOutOfMemory) exception = PyExc_MemoryError;
  if (status.code() == Code::kDevice) exception = PyExc_RuntimeError;
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

namespace {

// One of -rank..rank-1, as 0..rank-1; raises for anything else.
int parse_axis(nb::handle given, nb::handle axis, int rank) {
  const Ref index(PyNumber_Index(axis.ptr()));
  if (!index) {
    PyErr_Clear();
    raise(PyExc_TypeError, "axis: expected None, an integer or a tuple of integers, got %R", given.ptr());
  }
  const long long value = PyLong_AsLongLong(index.get());
  if (value == -1 && PyErr_Occurred()) PyErr_Clear();
  if (value < -rank || value >= rank || (value == -1 && rank == 0)) {
    raise(PyExc_ValueError, "axis: expected dimensions of an array of rank %d, got %R", rank, given.ptr());
  }
  return static_cast<int>(value < 0 ? value + rank : value);
}

}  // namespace

Axes::Axes(nb::handle axis, bool keepdims, std::span<const int64_t> shape) : keepdims_(keepdims) {
  const int rank = static_cast<int>(shape.size());
  if (axis.is_none()) {
    reduced_ = (1u << rank) - 1;
  } else if (PyTuple_Check(axis.ptr()) || PyList_Check(axis.ptr())) {
    for (const nb::handle one : axis) {
      const unsigned bit = 1u << parse_axis(axis, one, rank);
      if ((reduced_ & bit) != 0) {
        raise(PyExc_ValueError, "axis: expected each dimension at most once, got %R", axis.ptr());
      }
      reduced_ |= bit;
    }
  } else {
    reduced_ = 1u << parse_axis(axis, axis, rank);
  }
  const bool all = reduced_ == (1u << rank) - 1 && !keepdims;
  for (int i = 0; i < rank; ++i) {
    const bool reduced = reduced_ >> i & 1;
    if (!all) core_[core_rank_++] = reduced ? 1 : shape[i];
    if (!reduced || keepdims) shape_[rank_++] = reduced ? 1 : shape[i];
  }
}

}  // namespace mseloss::python
