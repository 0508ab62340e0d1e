// Views of Python arrays: operands and outputs given by the caller.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <span>

#include "arrays/dlpack.h"
#include "arrays/errors.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

// NumPy's own limit. The core rejects more than kMaxRank dimensions with its own message.
inline constexpr int kMaxReadRank = 64;

// How a result of the same kind as an operand is created: as a NumPy array (also the fallback), through
// DLPack's C exchange API, or through the library's `from_dlpack`.
enum class ArrayKind : uint8_t { kNumpy, kExchange, kDLPack };

struct ForeignArray;

// A view of a Python array, valid for one call. Shape and strides are copied, because other threads may
// change the array object once the GIL is released. The view owns the buffer or DLPack capsule that keeps the
// memory valid; a NumPy array or an exchanged tensor needs only the caller's reference.
class ArrayView {
 public:
  ArrayView() = default;
  ArrayView(const ArrayView&) = delete;
  ArrayView& operator=(const ArrayView&) = delete;
  ~ArrayView();

  // All read functions need the GIL and run once per view. `name` is the parameter's, for error messages.
  // Raise TypeError for other objects, dtypes and devices, ValueError for a layout that cannot be read. An
  // Exception of the object's own code becomes the cause of a TypeError; KeyboardInterrupt, SystemExit and
  // MemoryError pass unchanged.
  void read(PyObject* object, const char* name);
  // A Python number or a NumPy integer becomes one element of `dtype`, rounded once. Anything else is read().
  void read_or_scalar(PyObject* object, const char* name, DType dtype);
  // An output: an array that only gives copies raises TypeError, read-only memory ValueError.
  void read_writable(PyObject* object, const char* name);

  // A new reference to a NumPy array: the array itself if it is one, else a read-only array on the same
  // memory, which it keeps alive.
  PyObject* to_numpy();

  ConstTensor view() const { return {data_, dtype_, shape(), strides()}; }
  Tensor mutable_view() const { return {data_, dtype_, shape(), strides()}; }
  std::span<const int64_t> shape() const { return {shape_, static_cast<size_t>(rank_)}; }
  std::span<const int64_t> strides() const { return {strides_, static_cast<size_t>(rank_)}; }  // in elements
  DType dtype() const { return dtype_; }
  ArrayKind kind() const { return kind_; }
  PyObject* object() const { return object_; }  // borrowed
  const char* name() const { return name_; }

 private:
  bool read_numpy(PyObject* object);
  void read_other(PyObject* object);

  // read_dlpack.cpp and read_buffer.cpp. Each returns false if the object does not support its protocol, or
  // refuses; `refusal` keeps the first exception with which the object refused.
  bool read_foreign(PyObject* object, Ref* refusal);
  bool read_exchange(PyObject* object);
  bool read_dlpack(PyObject* object, Ref* refusal);
  bool read_buffer(PyObject* object, Ref* refusal);
  bool read_interface(PyObject* object, Ref* refusal);
  void read_interface_memory(PyObject* source, PyObject* offset, ForeignArray* array);
  bool get_buffer(PyObject* object, int flags, Ref* refusal);
  void read_dltensor(const DLTensor& tensor, ForeignArray array);
  // foreign_array.cpp: validates what a protocol reports. dtype_ must be set.
  void accept(const ForeignArray& array);
  void accept_layout(const ForeignArray& array);
  void accept_memory(const ForeignArray& array);

  // A copy of a list, a tuple or an object with __array__, made by NumPy.
  bool read_copy(PyObject* object, Ref* refusal);

  void set_rank(int64_t rank);
  void set_extents(const Py_ssize_t* shape, const Py_ssize_t* byte_strides);

  PyObject* object_ = nullptr;
  const char* name_ = nullptr;
  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  ArrayKind kind_ = ArrayKind::kNumpy;
  // Bit fields, and a union below, keep the object small, which speeds up small calls.
  bool writable_ : 1 = false;  // the caller wants to write
  bool read_only_ : 1 = false;
  bool has_buffer_ : 1 = false;
  int rank_ = 0;
  PyObject* owner_ = nullptr;  // owned reference
  union {
    char scalar_[8];  // a number's element
    Py_buffer buffer_;
  };
  int64_t shape_[kMaxReadRank];
  int64_t strides_[kMaxReadRank];
};

}  // namespace mseloss::python
