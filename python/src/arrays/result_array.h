// New dense arrays for results, of the same kind as an operand.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <span>

#include "arrays/array_view.h"
#include "arrays/dlpack.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

// A fresh dense array that is being filled. finish() hands it to Python; without it the memory goes back.
class ResultArray {
 public:
  ResultArray() = default;
  ResultArray(const ResultArray&) = delete;
  ResultArray& operator=(const ResultArray&) = delete;
  ~ResultArray();

  // The same kind of object as `like` (null: NumPy). Where `like` has the same shape, dimensions lie in
  // memory in its order, as NumPy's order "K": a transposed input gets a transposed result.
  void allocate(std::span<const int64_t> shape, DType dtype, const ArrayView* like);
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

}  // namespace mseloss::python
