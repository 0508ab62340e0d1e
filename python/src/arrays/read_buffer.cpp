// Reads the buffer protocol and __array_interface__.
#include <bit>
#include <cstring>

#include "arrays/array_view.h"
#include "arrays/dtypes.h"
#include "arrays/foreign_array.h"

namespace mseloss::python {
namespace {

constexpr bool kLittleEndian = std::endian::native == std::endian::little;

bool is_native(char order) { return order == '=' || order == (kLittleEndian ? '<' : '>'); }

// The DType of a struct-module format such as "<f"; null for others.
const DType* dtype_of_format(const char* format, Py_ssize_t itemsize) {
  const char* letter = *format == '@' || is_native(*format) ? format + 1 : format;
  if (letter[0] == '\0' || letter[1] != '\0') return nullptr;
  static constexpr struct {
    char letter;
    DType dtype;
  } kFormats[] = {
      {'f', DType::kFloat32}, {'e', DType::kFloat16}, {'d', DType::kFloat64}, {'?', DType::kBool}};
  for (const auto& format : kFormats) {
    if (*letter == format.letter && itemsize == size_of(format.dtype)) return &format.dtype;
  }
  return nullptr;
}

// The DType of an __array_interface__ typestr such as "<f4"; null for others. As in NumPy, the byte order may
// be absent or '|', which both mean the native one.
const DType* dtype_of_typestr(const char* typestr) {
  const bool foreign = *typestr == (kLittleEndian ? '>' : '<');
  if (is_native(*typestr) || foreign || *typestr == '|') ++typestr;
  static constexpr struct {
    const char* text;
    DType dtype;
  } kTypes[] = {
      {"f4", DType::kFloat32}, {"f2", DType::kFloat16}, {"f8", DType::kFloat64}, {"b1", DType::kBool}};
  for (const auto& type : kTypes) {
    const bool fits = !foreign || size_of(type.dtype) == 1;  // a single byte has no order
    if (fits && std::strcmp(typestr, type.text) == 0) return &type.dtype;
  }
  return nullptr;
}

// An object with __index__, such as a NumPy integer, as an int; null for others.
Ref to_int(PyObject* object) {
  Ref integer(PyIndex_Check(object) ? PyNumber_Index(object) : nullptr);
  if (!integer && PyErr_Occurred()) take_refusal();
  return integer;
}

// The tuple's integers, at most kMaxReadRank; raises TypeError for anything else.
int read_integers(const char* name, const char* field, PyObject* tuple, int64_t* values) {
  const Py_ssize_t count = PyTuple_Check(tuple) ? PyTuple_GET_SIZE(tuple) : 0;
  if (!PyTuple_Check(tuple) || count > kMaxReadRank) {
    raise(PyExc_TypeError,
          "%s: expected __array_interface__['%s'] to be a tuple of at most %d integers, got %s", name, field,
          kMaxReadRank, Py_TYPE(tuple)->tp_name);
  }
  for (Py_ssize_t i = 0; i < count; ++i) {
    // A reference of its own: __index__ may run any code.
    const Ref item(Py_NewRef(PyTuple_GET_ITEM(tuple, i)));
    const Ref integer = to_int(item.get());
    values[i] = integer ? PyLong_AsLongLong(integer.get()) : -1;
    if (!integer || (values[i] == -1 && PyErr_Occurred())) {
      PyErr_Clear();
      raise(PyExc_TypeError, "%s: expected 64-bit integers in __array_interface__['%s'], got %s", name, field,
            integer ? "a larger one" : Py_TYPE(item.get())->tp_name);
    }
  }
  return static_cast<int>(count);
}

}  // namespace

// The buffer protocol

bool ArrayView::get_buffer(PyObject* object, int flags, Ref* refusal) {
  if (PyObject_GetBuffer(object, &buffer_, flags) != 0) {
    note_refusal(refusal);
    return false;
  }
  has_buffer_ = true;
  return true;
}

bool ArrayView::read_buffer(PyObject* object, Ref* refusal) {
  if (!PyObject_CheckBuffer(object)) return false;
  // A read-only request may be served by a copy-on-write view, so an output is requested as writable first.
  Ref not_writable;
  if (!(writable_ && get_buffer(object, PyBUF_STRIDED | PyBUF_FORMAT, &not_writable)) &&
      !get_buffer(object, PyBUF_STRIDED_RO | PyBUF_FORMAT, refusal)) {
    return false;
  }
  const char* format = buffer_.format == nullptr ? "B" : buffer_.format;  // null: bytes
  const DType* dtype = dtype_of_format(format, buffer_.itemsize);
  if (dtype == nullptr || !accepts(*dtype)) {
    raise(PyExc_TypeError, "%s: expected %s, got a buffer of format '%s' and item size %zd", name_,
          dtype_names(), format, buffer_.itemsize);
  }
  dtype_ = *dtype;
  set_rank(buffer_.ndim);
  for (int i = 0; i < rank_ && buffer_.suboffsets != nullptr; ++i) {
    if (buffer_.suboffsets[i] >= 0) {
      raise(PyExc_TypeError, "%s: expected one block of memory, got a buffer of pointers", name_);
    }
  }
  ForeignArray array;
  array.data = buffer_.buf;
  array.rank = buffer_.ndim;
  array.shape = reinterpret_cast<const int64_t*>(buffer_.shape);
  array.strides = reinterpret_cast<const int64_t*>(buffer_.strides);
  array.byte_strides = true;
  array.read_only = buffer_.readonly != 0 || not_writable;
  array.bytes = buffer_.len;
  kind_ = ArrayKind::kNumpy;
  accept(array);
  return true;
}

// __array_interface__, version 3

bool ArrayView::read_interface(PyObject* object, Ref* refusal) {
  Ref interface = find_attribute(object, "__array_interface__", refusal);
  if (!interface) return false;
  if (!PyDict_Check(interface.get())) {
    raise(PyExc_TypeError, "%s: expected __array_interface__ to be a dict, got %s", name_,
          Py_TYPE(interface.get())->tp_name);
  }
  PyObject* dict = owner_ = interface.release();
  const auto field = [&](const char* key) -> PyObject* {  // borrowed; null: absent or None
    const Ref text(PyUnicode_FromString(key));
    PyObject* value = text ? PyDict_GetItemWithError(dict, text.get()) : nullptr;
    if (value == nullptr && PyErr_Occurred()) raise_current();
    return value == Py_None ? nullptr : value;
  };
  PyObject* typestr = field("typestr");
  const char* text = typestr != nullptr && PyUnicode_Check(typestr) ? PyUnicode_AsUTF8(typestr)
                     : typestr != nullptr && PyBytes_Check(typestr) ? PyBytes_AS_STRING(typestr)
                                                                    : "";
  if (text == nullptr) PyErr_Clear();
  const DType* dtype = text == nullptr ? nullptr : dtype_of_typestr(text);
  if (dtype == nullptr || !accepts(*dtype)) {
    const bool readable = typestr != nullptr && PyUnicode_CheckExact(typestr);
    raise(PyExc_TypeError, "%s: expected %s, got __array_interface__['typestr'] %V", name_, dtype_names(),
          readable ? typestr : nullptr, "of another type");
  }
  if (field("mask") != nullptr) {
    raise(PyExc_TypeError, "%s: expected values without a mask, got __array_interface__['mask']", name_);
  }
  dtype_ = *dtype;
  int64_t extents[kMaxReadRank], strides[kMaxReadRank];
  ForeignArray array;
  PyObject* shape = field("shape");
  array.rank = read_integers(name_, "shape", shape == nullptr ? Py_None : shape, extents);
  array.shape = extents;
  if (PyObject* given = field("strides")) {
    if (read_integers(name_, "strides", given, strides) != array.rank) {
      raise(PyExc_ValueError, "%s: expected %lld strides in __array_interface__, got %zd", name_,
            static_cast<long long>(array.rank), PyTuple_GET_SIZE(given));
    }
    array.strides = strides;
    array.byte_strides = true;
  }
  PyObject* data = field("data");
  if (data != nullptr && PyTuple_Check(data)) {
    const Ref address = PyTuple_GET_SIZE(data) == 2 ? to_int(PyTuple_GET_ITEM(data, 0)) : Ref();
    array.data = address ? PyLong_AsVoidPtr(address.get()) : nullptr;
    const bool invalid = !address || PyErr_Occurred() != nullptr;
    const int flag = invalid ? 0 : PyObject_IsTrue(PyTuple_GET_ITEM(data, 1));
    if (flag < 0) take_refusal();
    if (invalid || flag < 0) {
      PyErr_Clear();
      raise(PyExc_TypeError,
            "%s: expected __array_interface__['data'] to be (address, read-only flag), got another tuple",
            name_);
    }
    array.read_only = flag != 0;
  } else {
    read_interface_memory(data == nullptr ? object : data, field("offset"), &array);
  }
  kind_ = ArrayKind::kNumpy;
  accept(array);
  return true;
}

// The memory of an interface without an address: the buffer of `source`, from `offset` (may be null) on.
void ArrayView::read_interface_memory(PyObject* source, PyObject* offset, ForeignArray* array) {
  Ref not_writable, refusal;
  if (!PyObject_CheckBuffer(source)) {
    raise(PyExc_TypeError, "%s: expected an address or a buffer in __array_interface__['data'], got %s",
          name_, Py_TYPE(source)->tp_name);
  }
  if (!(writable_ && get_buffer(source, PyBUF_WRITABLE, &not_writable)) &&
      !get_buffer(source, PyBUF_SIMPLE, &refusal)) {
    raise_refused(name_, source, std::move(refusal));
  }
  int64_t bytes = 0;
  if (offset != nullptr) {
    const Ref integer = to_int(offset);
    bytes = integer ? PyLong_AsLongLong(integer.get()) : -1;
    if (bytes < 0) {
      PyErr_Clear();
      raise(PyExc_ValueError, "%s: expected __array_interface__['offset'] to be an integer of at least 0",
            name_);
    }
  }
  array->data = buffer_.buf;
  array->offset = static_cast<uint64_t>(bytes);
  array->read_only = buffer_.readonly != 0 || not_writable;
  array->memory.begin = buffer_.buf;
  array->memory.size = buffer_.len;
}

}  // namespace mseloss::python
