// Python arrays as views, and fresh arrays of the same kind.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <span>
#include <utility>

#include "dlpack.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

[[noreturn]] void raise_current();  // throws the Python error that is set
[[noreturn]] void raise(PyObject* exception, const char* format, ...);

// NumPy's own bound; the core refuses more than 8 dimensions with its sentence.
inline constexpr int kMaxReadRank = 64;

// Which object a result becomes. A DLPack kind remembers its type to find out how.
enum class Kind : uint8_t { kNumpy, kExchange, kDLPack };

// A view on a Python array for the length of one call. Shape and strides are copied, so that they hold while
// other threads run. Owns what keeps the view valid (a buffer, a DLPack capsule), if anything beyond the
// caller's reference is needed.
class Array {
 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array();

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

// A fresh dense array that is being filled. finish() hands it to Python; without it the memory goes back.
class Fresh {
 public:
  Fresh() = default;
  Fresh(const Fresh&) = delete;
  Fresh& operator=(const Fresh&) = delete;
  ~Fresh();

  // The same kind of object as `like` (null: NumPy). Where `like` has the same shape, dimensions lie in
  // memory in its order, as NumPy's order "K": a transposed input gets a transposed result.
  void allocate(std::span<const int64_t> shape, DType dtype, const Array* like);
  Tensor view() const { return {data_, dtype_, shape(), strides()}; }
  // A new reference. `scalar`: a 0-dimensional NumPy result becomes a NumPy scalar, as NumPy's reductions do.
  PyObject* finish(bool scalar = false);

 private:
  std::span<const int64_t> shape() const { return {shape_, static_cast<size_t>(rank_)}; }
  std::span<const int64_t> strides() const { return {strides_, static_cast<size_t>(rank_)}; }
  void allocate_numpy(size_t bytes);
  void allocate_managed(size_t bytes);

  Kind kind_ = Kind::kNumpy;
  DType dtype_ = DType::kFloat32;
  PyObject* like_ = nullptr;   // borrowed
  PyObject* array_ = nullptr;  // owned; NumPy only
  DLManagedTensorVersioned* managed_ = nullptr;
  void* data_ = nullptr;
  int rank_ = 0;
  int64_t shape_[kMaxRank];
  int64_t strides_[kMaxRank];
};

// Dense strides for `shape`, with the dimensions in memory in the order that the strides `like` give (none:
// row- major).
void dense_strides(std::span<const int64_t> shape, std::span<const int64_t> like, int64_t* strides);

// What a user may write for a dtype: a name, a NumPy, PyTorch or JAX dtype, a scalar type.
DType parse_dtype(PyObject* object);

// A managed tensor on its way to some library's `from_dlpack`.
class Export {
 public:
  explicit Export(DLManagedTensorVersioned* managed) : managed_(managed) {}  // takes ownership
  Export(Export&& other) noexcept : managed_(std::exchange(other.managed_, nullptr)) {}
  ~Export();
  PyObject* capsule(bool versioned);  // a new reference; once

 private:
  DLManagedTensorVersioned* managed_;
};

}  // namespace mseloss::python
