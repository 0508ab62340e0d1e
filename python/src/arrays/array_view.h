// Views on Python arrays: operands and caller-provided outputs.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <span>

#include "arrays/dlpack.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

// NumPy's own bound; the core refuses more than 8 dimensions with its sentence.
inline constexpr int kMaxReadRank = 64;

// Which object a result becomes. A DLPack kind remembers its type to find out how.
enum class Kind : uint8_t { kNumpy, kExchange, kDLPack };

// A view on a Python array for the length of one call. Shape and strides are copied, so that they hold while
// other threads run. Owns what keeps the view valid (a buffer, a DLPack capsule), if anything beyond the
// caller's reference is needed.
class ArrayView {
 public:
  ArrayView() = default;
  ArrayView(const ArrayView&) = delete;
  ArrayView& operator=(const ArrayView&) = delete;
  ~ArrayView();

  // `name` is the parameter's, for errors. Needs the GIL.
  void read(PyObject* object, const char* name);
  // A Python int or float becomes one element of `dtype`, anything else is read().
  void read_or_scalar(PyObject* object, const char* name, DType dtype);
  // An output: refuses read-only memory.
  void read_writable(PyObject* object, const char* name);

  // A NumPy array on the same memory, which it keeps alive; read-only. The NumPy array itself if it was one.
  PyObject* to_numpy(const char* name);

  ConstTensor view() const { return {data_, dtype_, shape(), strides()}; }
  Tensor mutable_view() const { return {data_, dtype_, shape(), strides()}; }
  std::span<const int64_t> shape() const { return {shape_, static_cast<size_t>(rank_)}; }
  std::span<const int64_t> strides() const { return {strides_, static_cast<size_t>(rank_)}; }
  DType dtype() const { return dtype_; }
  Kind kind() const { return kind_; }
  PyObject* object() const { return object_; }  // borrowed

 private:
  bool read_numpy(PyObject* object, const char* name);
  bool read_exchange(PyObject* object, const char* name);
  bool read_dlpack(PyObject* object, const char* name);
  bool read_buffer(PyObject* object, const char* name);
  void take(const DLTensor& tensor, const char* name);
  void set_byte_strides(const Py_ssize_t* shape, const Py_ssize_t* strides, const char* name);

  PyObject* object_ = nullptr;
  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  Kind kind_ = Kind::kNumpy;
  bool read_only_ = false;
  bool has_buffer_ = false;
  int rank_ = 0;
  alignas(8) char scalar_[8];
  PyObject* keep_ = nullptr;  // owned
  Py_buffer buffer_;
  int64_t shape_[kMaxReadRank];
  int64_t strides_[kMaxReadRank];
};

}  // namespace mseloss::python
