// New dense arrays for results, the same kind of object as an operand.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <span>

#include "arrays/array_view.h"
#include "arrays/dlpack.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

// A new dense array for a call to fill. finish() hands it to Python; without finish() the destructor frees
// it.
class ResultArray {
 public:
  ResultArray() = default;
  ResultArray(const ResultArray&) = delete;
  ResultArray& operator=(const ResultArray&) = delete;
  ~ResultArray();

  // An uninitialised array of at most kMaxRank dimensions, the same kind of object as `like` (null: NumPy).
  // If `like` has this shape, the result has its order of dimensions in memory, as with NumPy's order="K": a
  // transposed input gets a transposed result. Raises MemoryError.
  void allocate(std::span<const int64_t> shape, DType dtype, const ArrayView* like);
  Tensor view() const { return {data_, dtype_, shape(), strides()}; }
  // A new reference. `scalar`: a 0-dimensional NumPy array becomes a NumPy scalar, as in NumPy's reductions.
  PyObject* finish(bool scalar = false);

 private:
  std::span<const int64_t> shape() const { return {shape_, static_cast<size_t>(rank_)}; }
  std::span<const int64_t> strides() const { return {strides_, static_cast<size_t>(rank_)}; }
  void allocate_numpy(size_t bytes);
  void allocate_managed(size_t bytes);

  ArrayKind kind_ = ArrayKind::kNumpy;
  DType dtype_ = DType::kFloat32;
  PyObject* like_ = nullptr;                     // borrowed
  PyObject* array_ = nullptr;                    // owned; kNumpy
  DLManagedTensorVersioned* managed_ = nullptr;  // owned; kExchange and kDLPack
  void* data_ = nullptr;
  int rank_ = 0;
  int64_t shape_[kMaxRank];
  int64_t strides_[kMaxRank];
};

// The product of the extents; INT64_MAX if it is larger.
inline int64_t element_count(std::span<const int64_t> shape) {
  int64_t count = 1;
  bool fits = true, empty = false;
  for (const int64_t extent : shape) {
    empty = empty || extent == 0;
    fits = fits && !__builtin_mul_overflow(count, extent, &count);
  }
  return empty ? 0 : fits ? count : INT64_MAX;
}

// Dense strides in elements for `shape`. The dimensions lie in memory in the order of the strides `like`; if
// it is empty, of another length or has a stride of 0, in row-major order.
void dense_strides(std::span<const int64_t> shape, std::span<const int64_t> like, int64_t* strides);

}  // namespace mseloss::python
