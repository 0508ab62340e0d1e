#include "arrays/array_view.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "arrays/dtypes.h"
#include "arrays/errors.h"
#include "arrays/numpy_bridge.h"
#include "numerics/formats.h"

namespace mseloss::python {

namespace {

[[noreturn]] void raise_dtype(const char* name, PyObject* dtype) {
  raise(PyExc_TypeError, "%s: expected %s, got %S", name, kDTypeNames, dtype);
}

struct Ref {  // an owned reference
  PyObject* object = nullptr;
  ~Ref() { Py_XDECREF(object); }
};

const char* type_name(PyObject* object) { return Py_TYPE(object)->tp_name; }

// The first line of the current error's message, as a new reference; clears the error. PyTorch appends a
// stack trace in further lines. KeyboardInterrupt, SystemExit and MemoryError say nothing about the argument:
// they pass through.
PyObject* take_error_message() {
  if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) raise_current();
  Ref type, value, trace;
  PyErr_Fetch(&type.object, &value.object, &trace.object);
  Ref text{PyObject_Str(value.object == nullptr ? type.object : value.object)};
  if (text.object == nullptr) raise_current();
  const Py_ssize_t length = PyUnicode_GET_LENGTH(text.object);
  const Py_ssize_t end = PyUnicode_FindChar(text.object, '\n', 0, length, 1);
  PyObject* line = PyUnicode_Substring(text.object, 0, end < 0 ? length : end);
  if (line == nullptr) raise_current();
  return line;
}

// `nearest` is the float64 nearest to `integer`. Returns the integer rounded to odd instead: rounding that to
// a narrower dtype gives what rounding the integer once gives.
double round_to_odd(PyObject* integer, double nearest) {
  Ref back{PyLong_FromDouble(nearest)};
  if (back.object == nullptr) raise_current();
  const int less = PyObject_RichCompareBool(back.object, integer, Py_LT);
  const int equal = PyObject_RichCompareBool(back.object, integer, Py_EQ);
  if (less < 0 || equal < 0) raise_current();
  if (equal == 1) return nearest;
  auto bits = std::bit_cast<uint64_t>(nearest);
  if ((less == 0) == (nearest > 0)) --bits;  // towards zero
  return std::bit_cast<double>(bits | 1);
}

// PyTorch marks some views as negated by a flag that its DLPack exports omit.
void reject_lazy_negation(PyObject* object, const char* name) {
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  Ref answer{PyObject_CallMethodNoArgs(object, is_neg)};
  if (answer.object == nullptr) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) raise_current();
    PyErr_Clear();  // not a PyTorch tensor
  } else if (answer.object == Py_True) {
    raise(PyExc_TypeError,
          "%s: expected values as they lie in memory, got a lazily negated tensor: call resolve_neg()", name);
  }
}

}  // namespace

ArrayView::~ArrayView() {
  if (has_buffer_) PyBuffer_Release(&buffer_);
  Py_XDECREF(owner_);
}

void ArrayView::read(PyObject* object, const char* name) {
  object_ = object;
  if (read_numpy(object, name) || read_exchange(object, name) || read_dlpack(object, name) ||
      read_buffer(object, name)) {
    return;
  }
  raise(PyExc_TypeError, "%s: expected an array (NumPy, PyTorch, JAX, DLPack or the buffer protocol), got %s",
        name, type_name(object));
}

void ArrayView::read_or_scalar(PyObject* object, const char* name, DType dtype) {
  if (!PyFloat_Check(object) && !PyLong_Check(object)) return read(object, name);
  double value = PyFloat_AsDouble(object);
  if (value == -1 && PyErr_Occurred()) {
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) raise_current();
    PyErr_Clear();
    raise(PyExc_OverflowError, "%s: expected a number within float64's range, got a larger integer", name);
  }
  if (PyLong_Check(object) && dtype != DType::kFloat64) value = round_to_odd(object, value);
  store_rounded(value, dtype, scalar_);
  object_ = object;
  data_ = scalar_;
  dtype_ = dtype;
  rank_ = 0;
}

void ArrayView::read_writable(PyObject* object, const char* name) {
  read(object, name);
  if (read_only_) raise(PyExc_ValueError, "%s: expected writable memory, got a read-only array", name);
}

void ArrayView::set_rank(int64_t rank, const char* name) {
  if (rank < 0) {
    raise(PyExc_ValueError, "%s: expected a number of dimensions, got %lld", name,
          static_cast<long long>(rank));
  }
  if (rank > kMaxReadRank) {
    raise(PyExc_ValueError, "%s: expected at most %d dimensions, got %lld", name, kMaxRank,
          static_cast<long long>(rank));
  }
  rank_ = static_cast<int>(rank);
}

void ArrayView::set_extents(const Py_ssize_t* shape, const Py_ssize_t* byte_strides, const char* name) {
  const int size = size_of(dtype_);
  const int shift = std::countr_zero(static_cast<unsigned>(size));
  for (int i = 0; i < rank_; ++i) {
    shape_[i] = shape[i];
    strides_[i] = byte_strides[i] >> shift;
    if ((byte_strides[i] & (size - 1)) != 0 && shape[i] > 1) {
      raise(PyExc_ValueError, "%s: expected strides of whole elements (%d bytes), got a stride of %zd bytes",
            name, size, byte_strides[i]);
    }
  }
}

void ArrayView::set_contiguous_strides() {
  int64_t stride = 1;
  for (int i = rank_; i-- > 0;) {
    strides_[i] = stride;
    stride *= shape_[i];
  }
}

PyObject* ArrayView::to_numpy(const char* name) {
  if (is_numpy_array(object_)) {
    Py_INCREF(object_);
    return object_;
  }
  if (rank_ > kMaxRank)
    raise(PyExc_ValueError, "%s: expected at most %d dimensions, got %d", name, kMaxRank, rank_);
  PyObject* owner = has_buffer_ ? PyMemoryView_FromObject(object_)
                                : PyTuple_Pack(2, object_, owner_ == nullptr ? Py_None : owner_);
  if (owner == nullptr) raise_current();
  PyObject* array = new_numpy_array(rank_, shape_, strides_, dtype_, data_, owner);
  numpy_set_read_only(array);
  return array;
}

bool ArrayView::read_numpy(PyObject* object, const char* name) {
  if (!is_numpy_array(object)) {
    if (!is_numpy_scalar(object)) return false;
    owner_ = numpy_scalar_to_array(object);
    object = owner_;
  }
  const NumpyView array = numpy_view(object);
  if (!array.supported) raise_dtype(name, array.dtype);
  data_ = array.data;
  dtype_ = array.element;
  kind_ = ArrayKind::kNumpy;
  read_only_ = !array.writable || owner_ != nullptr;
  set_rank(array.rank, name);
  set_extents(array.shape, array.strides, name);
  return true;
}

void ArrayView::read_dltensor(const DLTensor& tensor, const char* name) {
  const int device = tensor.device.type;
  if (device != kDLCPU && device != kDLCUDAHost && device != kDLROCMHost && device != kDLCUDAManaged) {
    raise(PyExc_TypeError, "%s: expected memory of this processor, got a tensor on DLPack device type %d",
          name, device);
  }
  const DType* dtype = std::ranges::find(kDTypes, tensor.dtype, dlpack_dtype);
  if (dtype == std::end(kDTypes)) {
    Ref given{PyObject_GetAttrString(object_, "dtype")};
    if (given.object != nullptr) raise_dtype(name, given.object);
    PyErr_Clear();
    raise(PyExc_TypeError, "%s: expected %s, got DLPack type code %d of %d bits", name, kDTypeNames,
          tensor.dtype.code, tensor.dtype.bits);
  }
  dtype_ = *dtype;
  set_rank(tensor.ndim, name);
  data_ = static_cast<char*>(tensor.data) + tensor.byte_offset;
  if (tensor.shape == nullptr && rank_ > 0) {
    raise(PyExc_ValueError, "%s: expected a shape of %d extents, got a DLPack tensor without one", name,
          rank_);
  }
  std::copy_n(tensor.shape, rank_, shape_);
  if (tensor.strides != nullptr) {
    std::copy_n(tensor.strides, rank_, strides_);
    return;
  }
  set_contiguous_strides();
}

bool ArrayView::read_exchange(PyObject* object, const char* name) {
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(object));
  if (api == nullptr || api->view_from_object == nullptr) return false;
  DLTensor tensor;
  if (api->view_from_object(object, &tensor) != 0) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_BufferError, "the tensor cannot be exported");
    Ref reason{take_error_message()};
    raise(PyExc_TypeError,
          "%s: expected a dense-storage tensor of this processor, got one that %s refuses to "
          "export: %S",
          name, type_name(object), reason.object);
  }
  reject_lazy_negation(object, name);
  kind_ = ArrayKind::kExchange;
  read_dltensor(tensor, name);
  return true;
}

bool ArrayView::read_dlpack(PyObject* object, const char* name) {
  if (PyType_Check(object)) return false;
  Ref method{PyObject_GetAttrString(object, "__dlpack__")};
  if (method.object == nullptr) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) raise_current();
    PyErr_Clear();
    return false;
  }
  reject_lazy_negation(object, name);  // a PyTorch older than the exchange API
  // Producers older than DLPack 1.0 do not accept max_version, and cannot mark memory as read-only.
  Ref no_arguments{PyTuple_New(0)}, keywords{Py_BuildValue("{s(ii)}", "max_version", 1, 1)};
  if (no_arguments.object == nullptr || keywords.object == nullptr) raise_current();
  PyObject* capsule = PyObject_Call(method.object, no_arguments.object, keywords.object);
  if (capsule == nullptr && PyErr_ExceptionMatches(PyExc_TypeError)) {
    PyErr_Clear();
    capsule = PyObject_CallNoArgs(method.object);
  }
  if (capsule == nullptr) {
    Ref reason{take_error_message()};
    // Memory whose type DLPack lacks may still have a buffer. If not, report the producer's reason.
    if (acquire_buffer(object)) return read_buffer(object, name);
    PyErr_Clear();
    raise(PyExc_TypeError, "%s: expected an array that DLPack can export, got %s: %S", name,
          type_name(object), reason.object);
  }
  if (!PyCapsule_IsValid(capsule, "dltensor_versioned") && !PyCapsule_IsValid(capsule, "dltensor")) {
    Ref given{capsule};
    raise(PyExc_TypeError, "%s: expected __dlpack__() of %s to return an unused DLPack capsule, got %R", name,
          type_name(object), given.object);
  }
  owner_ = capsule;  // not consumed: its destructor calls the producer's deleter
  kind_ = ArrayKind::kDLPack;
  if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
    auto* managed =
        static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
    if (managed->version.major != 1) {
      raise(PyExc_TypeError, "%s: expected DLPack 1, got version %u", name, managed->version.major);
    }
    read_only_ = (managed->flags & kDLPackReadOnly) != 0;
    read_dltensor(managed->dl_tensor, name);
  } else {
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    read_dltensor(managed->dl_tensor, name);
  }
  // JAX arrays are immutable, but their DLPack export does not say so.
  if (!read_only_ && std::strncmp(type_name(object), "jaxlib.", 7) == 0) read_only_ = true;
  return true;
}

bool ArrayView::acquire_buffer(PyObject* object) {
  has_buffer_ = PyObject_CheckBuffer(object) != 0 &&
                PyObject_GetBuffer(object, &buffer_, PyBUF_STRIDED_RO | PyBUF_FORMAT) == 0;
  return has_buffer_;
}

bool ArrayView::read_buffer(PyObject* object, const char* name) {
  if (!has_buffer_ && !acquire_buffer(object)) {
    if (!PyErr_Occurred()) return false;
    Ref reason{take_error_message()};
    raise(PyExc_TypeError, "%s: expected a buffer of strided memory, got %s: %S", name, type_name(object),
          reason.object);
  }
  const char* format = buffer_.format == nullptr ? "B" : buffer_.format;
  const char* letter = *format == '=' || *format == '@' || *format == '<' ? format + 1 : format;
  const char code = letter[0] != '\0' && letter[1] == '\0' ? letter[0] : '\0';
  if (code == 'f' && buffer_.itemsize == 4) {
    dtype_ = DType::kFloat32;
  } else if (code == 'e' && buffer_.itemsize == 2) {
    dtype_ = DType::kFloat16;
  } else if (code == 'd' && buffer_.itemsize == 8) {
    dtype_ = DType::kFloat64;
  } else {
    raise(PyExc_TypeError, "%s: expected %s, got a buffer of format '%s'", name, kDTypeNames, format);
  }
  kind_ = ArrayKind::kNumpy;
  data_ = buffer_.buf;
  read_only_ = buffer_.readonly != 0;
  set_rank(buffer_.ndim, name);
  if (buffer_.suboffsets != nullptr &&
      std::any_of(buffer_.suboffsets, buffer_.suboffsets + rank_, [](Py_ssize_t s) { return s >= 0; })) {
    raise(PyExc_TypeError, "%s: expected one block of memory, got a buffer with suboffsets", name);
  }
  // The protocol allows exporters to leave out the strides of contiguous memory (ctypes does) and the shape
  // of a single dimension.
  const Py_ssize_t length = buffer_.len / buffer_.itemsize;
  if (buffer_.shape == nullptr && rank_ > 1) {
    raise(PyExc_ValueError, "%s: expected a shape of %d extents, got a buffer without one", name, rank_);
  }
  const Py_ssize_t* shape = buffer_.shape == nullptr ? &length : buffer_.shape;
  if (buffer_.strides != nullptr) {
    set_extents(shape, buffer_.strides, name);
  } else {
    std::copy_n(shape, rank_, shape_);
    set_contiguous_strides();
  }
  return true;
}

}  // namespace mseloss::python
