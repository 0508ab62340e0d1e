#include "arrays/numpy_bridge.h"

#include <algorithm>
#include <atomic>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_1_23_API_VERSION
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>

#include "arrays/errors.h"

namespace mseloss::python {
namespace {

// sys.modules[name] as a borrowed reference, or null if it is not imported.
PyObject* loaded_module(const char* name) {
  PyObject* modules = PyImport_GetModuleDict();  // borrowed
  PyObject* key = PyUnicode_FromString(name);
  if (key == nullptr) raise_current();
  PyObject* module = PyDict_GetItemWithError(modules, key);
  Py_DECREF(key);
  if (module == nullptr && PyErr_Occurred()) raise_current();
  return module == Py_None ? nullptr : module;
}

// NumPy's C API is a table of pointers; null until NumPy is loaded.
bool api_loaded() { return PyArray_API != nullptr; }

bool load_api_if_numpy_is_loaded() {
  if (api_loaded()) return true;
  if (loaded_module("numpy") == nullptr) return false;
  if (_import_array() < 0) raise_current();
  return true;
}

void load_api() {
  if (!api_loaded() && _import_array() < 0) raise_current();
}

// ml_dtypes registers its bfloat16 with NumPy at import, so the type number differs between processes.
std::atomic<int> bfloat16_number{NPY_NOTYPE};

bool is_bfloat16(PyArray_Descr* descr) {
  const int number = descr->type_num;
  if (number < NPY_USERDEF) return false;
  if (number == bfloat16_number.load(std::memory_order_relaxed)) return true;
  PyObject* module = loaded_module("ml_dtypes");
  if (module == nullptr) return false;
  PyObject* type = PyObject_GetAttrString(module, "bfloat16");
  if (type == nullptr) raise_current();
  const bool same = reinterpret_cast<PyObject*>(descr->typeobj) == type;
  Py_DECREF(type);
  if (same) bfloat16_number.store(number, std::memory_order_relaxed);
  return same;
}

std::optional<DType> dtype_of(PyArray_Descr* descr) {
  if (descr->byteorder == NPY_OPPBYTE) return {};
  switch (descr->type_num) {
    case NPY_BOOL:
      return DType::kBool;
    case NPY_FLOAT:
      return DType::kFloat32;
    case NPY_HALF:
      return DType::kFloat16;
    case NPY_DOUBLE:
      return DType::kFloat64;
    default:
      return is_bfloat16(descr) ? std::optional(DType::kBFloat16) : std::nullopt;
  }
}

PyArray_Descr* descr_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return PyArray_DescrFromType(NPY_DOUBLE);
    case DType::kFloat16:
      return PyArray_DescrFromType(NPY_HALF);
    case DType::kFloat32:
      return PyArray_DescrFromType(NPY_FLOAT);
    case DType::kBool:
      return PyArray_DescrFromType(NPY_BOOL);
    case DType::kBFloat16:
      break;
  }
  int number = bfloat16_number.load(std::memory_order_relaxed);
  if (number == NPY_NOTYPE) {
    PyObject* module = PyImport_ImportModule("ml_dtypes");
    if (module == nullptr) raise_current();
    PyObject* type = PyObject_GetAttrString(module, "bfloat16");
    Py_DECREF(module);
    PyArray_Descr* descr = nullptr;
    if (type == nullptr || PyArray_DescrConverter(type, &descr) == NPY_FAIL) raise_current();
    Py_DECREF(type);
    bfloat16_number.store(descr->type_num, std::memory_order_relaxed);
    return descr;
  }
  return PyArray_DescrFromType(number);
}

}  // namespace

bool is_numpy_array(PyObject* object) { return load_api_if_numpy_is_loaded() && PyArray_Check(object); }

bool is_numpy_scalar(PyObject* object) { return api_loaded() && PyArray_IsScalar(object, Generic); }

bool is_numpy_integer(PyObject* object) {
  return api_loaded() && (PyArray_IsScalar(object, Integer) || PyArray_IsScalar(object, Bool));
}

PyObject* numpy_integer_to_int(PyObject* integer) {
  PyObject* result = PyArray_IsScalar(integer, Bool) ? PyLong_FromLong(integer == PyArrayScalar_True)
                                                     : PyNumber_Index(integer);
  if (result == nullptr) raise_current();
  return result;
}

namespace {

// Whether all elements of a new array of objects are ints, some of which exceed 64 bits, or floats.
bool holds_numbers(PyArrayObject* array) {
  if (PyArray_TYPE(array) != NPY_OBJECT) return false;
  auto* const* const items = static_cast<PyObject**>(PyArray_DATA(array));
  const auto is_number = [](PyObject* item) { return PyLong_Check(item) || PyFloat_Check(item); };
  return std::all_of(items, items + PyArray_SIZE(array), is_number);
}

}  // namespace

PyObject* numpy_asarray(PyObject* object) {
  load_api();
  PyObject* array = PyArray_FromAny(object, nullptr, 0, 0, 0, nullptr);
  if (array == nullptr || !(PyList_Check(object) || PyTuple_Check(object))) return array;
  auto* const numbers = reinterpret_cast<PyArrayObject*>(array);
  if (!PyTypeNum_ISINTEGER(PyArray_TYPE(numbers)) && !holds_numbers(numbers)) return array;
  PyObject* converted = PyArray_Cast(numbers, NPY_DOUBLE);
  Py_DECREF(array);
  return converted;
}

int numpy_has_mask(PyObject* array) {
  PyObject* module = loaded_module("numpy.ma");
  if (module == nullptr) return 0;
  const Ref type(PyObject_GetAttrString(module, "MaskedArray"));
  const int masked = type ? PyObject_IsInstance(array, type.get()) : -1;
  if (masked <= 0) return masked;
  const Ref mask(PyObject_GetAttrString(array, "mask"));
  const Ref any(mask ? PyObject_CallMethod(mask.get(), "any", nullptr) : nullptr);
  return any ? PyObject_IsTrue(any.get()) : -1;
}

std::optional<DType> numpy_find_dtype(PyObject* object) {
  load_api();
  PyArray_Descr* descr = nullptr;
  if (PyArray_DescrConverter(object, &descr) == NPY_FAIL) {
    take_refusal();
    return {};
  }
  const Ref owned(reinterpret_cast<PyObject*>(descr));
  const std::optional<DType> dtype = dtype_of(descr);
  return dtype == DType::kBool ? std::nullopt : dtype;
}

PyObject* numpy_scalar_to_array(PyObject* scalar) {
  PyObject* array = PyArray_FromScalar(scalar, nullptr);
  if (array == nullptr) raise_current();
  return array;
}

NumpyView numpy_view(PyObject* object) {
  auto* array = reinterpret_cast<PyArrayObject*>(object);
  PyArray_Descr* descr = PyArray_DESCR(array);
  NumpyView view;
  view.data = PyArray_DATA(array);
  view.shape = PyArray_DIMS(array);
  view.strides = PyArray_STRIDES(array);
  view.rank = PyArray_NDIM(array);
  view.writable = PyArray_ISWRITEABLE(array);
  view.descr = reinterpret_cast<PyObject*>(descr);
  view.exact = PyArray_CheckExact(object);
  const std::optional<DType> dtype = dtype_of(descr);
  view.supported = dtype.has_value();
  view.dtype = dtype.value_or(DType::kFloat32);
  return view;
}

PyObject* new_numpy_array(int rank, const int64_t* shape, const int64_t* strides, DType dtype, void* data,
                          PyObject* owner) {
  load_api();
  static_assert(sizeof(npy_intp) == sizeof(int64_t));
  npy_intp byte_strides[kMaxRank];
  for (int i = 0; i < rank; ++i) byte_strides[i] = strides[i] * size_of(dtype);
  // PyArray_NewFromDescr steals the dtype.
  PyObject* array = PyArray_NewFromDescr(
      &PyArray_Type, descr_of(dtype), rank, const_cast<npy_intp*>(reinterpret_cast<const npy_intp*>(shape)),
      byte_strides, data, data == nullptr ? 0 : NPY_ARRAY_WRITEABLE, nullptr);
  if (array == nullptr) {
    Py_XDECREF(owner);
    raise_current();
  }
  if (owner != nullptr && PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array), owner) < 0) {
    Py_DECREF(array);
    raise_current();
  }
  return array;
}

PyObject* new_numpy_int32(size_t count, int32_t** data) {
  load_api();
  npy_intp shape = static_cast<npy_intp>(count);
  PyObject* array = PyArray_SimpleNew(1, &shape, NPY_INT32);
  if (array == nullptr) raise_current();
  *data = static_cast<int32_t*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)));
  return array;
}

std::span<const int32_t> numpy_int32(PyObject* object) {
  if (!is_numpy_array(object)) return {};
  auto* const array = reinterpret_cast<PyArrayObject*>(object);
  const bool plain = PyArray_TYPE(array) == NPY_INT32 && PyArray_NDIM(array) == 1 &&
                     PyArray_CHKFLAGS(array, NPY_ARRAY_CARRAY_RO) && PyArray_ISNOTSWAPPED(array);
  if (!plain) return {};
  return {static_cast<const int32_t*>(PyArray_DATA(array)), static_cast<size_t>(PyArray_DIM(array, 0))};
}

void numpy_set_read_only(PyObject* array) {
  PyArray_CLEARFLAGS(reinterpret_cast<PyArrayObject*>(array), NPY_ARRAY_WRITEABLE);
}

PyObject* numpy_array_to_scalar(PyObject* array) {
  return PyArray_Return(reinterpret_cast<PyArrayObject*>(array));
}

}  // namespace mseloss::python
