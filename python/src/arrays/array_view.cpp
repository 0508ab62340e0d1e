// Python arrays in: NumPy's structure, DLPack's C exchange API, DLPack, the buffer protocol, in this order.
#include "arrays/array_view.h"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstring>

#include "arrays/errors.h"
#include "arrays/numpy_bridge.h"
#include "numerics/formats.h"

namespace mseloss::python {

void raise(PyObject* exception, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  PyErr_FormatV(exception, format, arguments);
  va_end(arguments);
  raise_current();
}

void raise_current() { throw nanobind::python_error(); }

namespace {

constexpr const char* kDTypes = "float32, float16, bfloat16 or float64";

[[noreturn]] void raise_dtype(const char* name, PyObject* dtype) {
  raise(PyExc_TypeError, "%s: expected %s, got %S", name, kDTypes, dtype);
}

void check_rank(int64_t rank, const char* name) {
  if (rank > kMaxReadRank) {
    raise(PyExc_ValueError, "%s: expected at most %d dimensions, got %lld", name, kMaxRank,
          static_cast<long long>(rank));
  }
}

struct Ref {  // an owned reference
  PyObject* object = nullptr;
  ~Ref() { Py_XDECREF(object); }
};

const char* type_name(PyObject* object) { return Py_TYPE(object)->tp_name; }

// What a producer says of its refusal, of which PyTorch's first line is the reason and the rest a stack
// trace. Clears the Python error; a new reference.
PyObject* take_reason() {
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

// PyTorch negates some views lazily, by a bit that its exports leave out.
void refuse_lazy_negation(PyObject* object, const char* name) {
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  Ref answer{PyObject_CallMethodNoArgs(object, is_neg)};
  if (answer.object == nullptr) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) raise_current();
    PyErr_Clear();  // no tensor of PyTorch's
  } else if (answer.object == Py_True) {
    raise(PyExc_TypeError,
          "%s: expected values as they lie in memory, got a lazily negated tensor: call resolve_neg()", name);
  }
}

}  // namespace

ArrayView::~ArrayView() {
  if (has_buffer_) PyBuffer_Release(&buffer_);
  Py_XDECREF(keep_);
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
  const double value = PyFloat_AsDouble(object);
  if (value == -1 && PyErr_Occurred()) raise_current();
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

void ArrayView::set_byte_strides(const Py_ssize_t* shape, const Py_ssize_t* strides, const char* name) {
  const int size = size_of(dtype_);
  const int shift = std::countr_zero(static_cast<unsigned>(size));
  for (int i = 0; i < rank_; ++i) {
    shape_[i] = shape[i];
    strides_[i] = strides[i] >> shift;
    if ((strides[i] & (size - 1)) != 0 && shape[i] > 1) {
      raise(PyExc_ValueError, "%s: expected strides of whole elements (%d bytes), got a stride of %zd bytes",
            name, size, strides[i]);
    }
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
                                : PyTuple_Pack(2, object_, keep_ == nullptr ? Py_None : keep_);
  if (owner == nullptr) raise_current();
  void* unused;
  PyObject* array = new_numpy_array(rank_, shape_, strides_, dtype_, data_, owner, &unused);
  numpy_set_read_only(array);
  return array;
}

bool ArrayView::read_numpy(PyObject* object, const char* name) {
  if (!is_numpy_array(object)) {
    if (!is_numpy_scalar(object)) return false;
    keep_ = numpy_scalar_to_array(object);
    object = keep_;
  }
  const NumpyView array = numpy_view(object);
  if (!array.supported) raise_dtype(name, array.dtype);
  data_ = array.data;
  dtype_ = array.element;
  kind_ = Kind::kNumpy;
  read_only_ = !array.writable || keep_ != nullptr;
  rank_ = array.rank;
  check_rank(rank_, name);
  set_byte_strides(array.shape, array.strides, name);
  return true;
}

void ArrayView::take(const DLTensor& tensor, const char* name) {
  const int device = tensor.device.type;
  if (device != kDLCPU && device != kDLCUDAHost && device != kDLROCMHost && device != kDLCUDAManaged) {
    raise(PyExc_TypeError, "%s: expected memory of this processor, got a tensor on DLPack device type %d",
          name, device);
  }
  const DLDataType& type = tensor.dtype;
  if (type.lanes == 1 && type.code == kDLFloat && type.bits == 32) {
    dtype_ = DType::kFloat32;
  } else if (type.lanes == 1 && type.code == kDLFloat && type.bits == 16) {
    dtype_ = DType::kFloat16;
  } else if (type.lanes == 1 && type.code == kDLBfloat && type.bits == 16) {
    dtype_ = DType::kBFloat16;
  } else if (type.lanes == 1 && type.code == kDLFloat && type.bits == 64) {
    dtype_ = DType::kFloat64;
  } else {
    Ref dtype{PyObject_GetAttrString(object_, "dtype")};
    if (dtype.object != nullptr) raise_dtype(name, dtype.object);
    PyErr_Clear();
    raise(PyExc_TypeError, "%s: expected %s, got DLPack type code %d of %d bits", name, kDTypes, type.code,
          type.bits);
  }
  check_rank(tensor.ndim, name);
  rank_ = tensor.ndim;
  data_ = static_cast<char*>(tensor.data) + tensor.byte_offset;
  std::copy_n(tensor.shape, rank_, shape_);
  if (tensor.strides != nullptr) {
    std::copy_n(tensor.strides, rank_, strides_);
    return;
  }
  int64_t dense = 1;
  for (int i = rank_; i-- > 0;) {
    strides_[i] = dense;
    dense *= shape_[i];
  }
}

bool ArrayView::read_exchange(PyObject* object, const char* name) {
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(object));
  if (api == nullptr || api->view_from_object == nullptr) return false;
  DLTensor tensor;
  if (api->view_from_object(object, &tensor) != 0) {  // not a plain strided tensor
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_BufferError, "the tensor cannot be exported");
    Ref reason{take_reason()};
    raise(PyExc_TypeError,
          "%s: expected a dense-storage tensor of this processor, got one that %s refuses to "
          "export: %S",
          name, type_name(object), reason.object);
  }
  refuse_lazy_negation(object, name);
  kind_ = Kind::kExchange;
  take(tensor, name);
  return true;
}

bool ArrayView::read_dlpack(PyObject* object, const char* name) {
  if (PyType_Check(object)) return false;
  Ref method{PyObject_GetAttrString(object, "__dlpack__")};
  if (method.object == nullptr) {
    PyErr_Clear();
    return false;
  }
  refuse_lazy_negation(object, name);  // PyTorch before its exchange API
  // A producer older than DLPack 1.0 does not know max_version, and cannot say that memory is read-only.
  Ref no_arguments{PyTuple_New(0)}, keywords{Py_BuildValue("{s(ii)}", "max_version", 1, 1)};
  if (no_arguments.object == nullptr || keywords.object == nullptr) raise_current();
  PyObject* capsule = PyObject_Call(method.object, no_arguments.object, keywords.object);
  if (capsule == nullptr && PyErr_ExceptionMatches(PyExc_TypeError)) {
    PyErr_Clear();
    capsule = PyObject_CallNoArgs(method.object);
  }
  if (capsule == nullptr) {
    Ref reason{take_reason()};
    // Some memory that has no DLPack type still has a buffer; without one the producer's reason counts.
    if (PyObject_CheckBuffer(object) && read_buffer(object, name)) return true;
    PyErr_Clear();
    raise(PyExc_TypeError, "%s: expected an array that DLPack can export, got %s: %S", name,
          type_name(object), reason.object);
  }
  keep_ = capsule;  // not consumed: its destructor calls the producer's deleter
  kind_ = Kind::kDLPack;
  if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
    auto* managed =
        static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
    if (managed->version.major != 1) {
      raise(PyExc_TypeError, "%s: expected DLPack 1, got version %u", name, managed->version.major);
    }
    read_only_ = (managed->flags & kDLPackReadOnly) != 0;
    take(managed->dl_tensor, name);
  } else {
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    if (managed == nullptr) raise_current();
    take(managed->dl_tensor, name);
  }
  // JAX's arrays never change, and its DLPack export does not say so; its buffer does.
  if (!read_only_ && std::strncmp(type_name(object), "jaxlib.", 7) == 0) read_only_ = true;
  return true;
}

bool ArrayView::read_buffer(PyObject* object, const char* name) {
  if (!PyObject_CheckBuffer(object)) return false;
  if (PyObject_GetBuffer(object, &buffer_, PyBUF_STRIDED_RO | PyBUF_FORMAT) != 0) raise_current();
  has_buffer_ = true;
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
    raise(PyExc_TypeError, "%s: expected %s, got a buffer of format '%s'", name, kDTypes, format);
  }
  kind_ = Kind::kNumpy;
  data_ = buffer_.buf;
  read_only_ = buffer_.readonly != 0;
  check_rank(buffer_.ndim, name);
  rank_ = buffer_.ndim;
  set_byte_strides(buffer_.shape, buffer_.strides, name);
  return true;
}

}  // namespace mseloss::python
