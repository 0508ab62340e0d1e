// Views of Python arrays: operands and outputs given by the caller.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <span>

#include "arrays/dlpack.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

// NumPy's own limit. The core rejects more than kMaxRank dimensions with its own message.
inline constexpr int kMaxReadRank = 64;

// How a result becomes the same kind of object as an operand: as a NumPy array, through DLPack's C exchange
// API, or through the library's `from_dlpack`.
enum class ArrayKind : uint8_t { kNumpy, kExchange, kDLPack };

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
  // Raise TypeError for other objects, dtypes and devices, ValueError for strides that are not whole
  // elements.
  void read(PyObject* object, const char* name);
  // A Python int or float becomes one element of `dtype`, rounded once. Anything else is read().
  void read_or_scalar(PyObject* object, const char* name, DType dtype);
  // An output: read-only memory raises ValueError.
  void read_writable(PyObject* object, const char* name);

  // A new reference to a NumPy array: the array itself if it is one, else a read-only array on the same
  // memory, which it keeps alive.
  PyObject* to_numpy(const char* name);

  ConstTensor view() const { return {data_, dtype_, shape(), strides()}; }
  Tensor mutable_view() const { return {data_, dtype_, shape(), strides()}; }
  std::span<const int64_t> shape() const { return {shape_, static_cast<size_t>(rank_)}; }
  std::span<const int64_t> strides() const { return {strides_, static_cast<size_t>(rank_)}; }  // in elements
  DType dtype() const { return dtype_; }
  ArrayKind kind() const { return kind_; }
  PyObject* object() const { return object_; }  // borrowed

 private:
  // Each returns false if the object does not support its protocol.
  bool read_numpy(PyObject* object, const char* name);
  bool read_exchange(PyObject* object, const char* name);
  bool read_dlpack(PyObject* object, const char* name);
  bool acquire_buffer(PyObject* object);  // false, perhaps with an error set, if there is none
  bool read_buffer(PyObject* object, const char* name);

  void read_dltensor(const DLTensor& tensor, const char* name);
  void set_rank(int64_t rank, const char* name);
  void set_contiguous_strides();
  void set_extents(const Py_ssize_t* shape, const Py_ssize_t* byte_strides, const char* name);

  PyObject* object_ = nullptr;
  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  ArrayKind kind_ = ArrayKind::kNumpy;
  bool read_only_ = false;
  bool has_buffer_ = false;
  int rank_ = 0;
  alignas(8) char scalar_[8];
  PyObject* owner_ = nullptr;  // owned reference
  Py_buffer buffer_;
  int64_t shape_[kMaxReadRank];
  int64_t strides_[kMaxReadRank];
};

}  // namespace mseloss::python
