// The memory of an array of another library, as a protocol describes it.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>

#include "arrays/errors.h"

namespace mseloss::python {

// Filled in by the reader of each protocol, unchecked. ArrayView::accept() checks every field before it uses
// any.
struct ForeignArray {
  static constexpr int64_t kUnknown = INT64_MIN;
  void* data = nullptr;  // element (0, ..., 0) is `offset` bytes behind it
  uint64_t offset = 0;
  int64_t rank = 0;
  const int64_t* shape = nullptr;    // null is valid for rank 0, and for rank 1 if `bytes` is known
  const int64_t* strides = nullptr;  // null: dense, row-major
  bool byte_strides = false;         // the strides' unit: bytes or elements
  bool read_only = false;
  int64_t bytes = kUnknown;  // size of all elements together
  struct {
    const void* begin = nullptr;
    int64_t size = 0;
  } memory = {};  // where every element must lie; null: unknown
};

// Raise TypeError for a dtype that is not supported, and for an object that raised `refusal` when it was
// read.
[[noreturn]] void raise_dtype(const char* name, PyObject* dtype, const char* expected);
[[noreturn]] void raise_refused(const char* name, PyObject* object, Ref refusal);

}  // namespace mseloss::python
