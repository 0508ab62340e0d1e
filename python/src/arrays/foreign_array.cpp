#include "arrays/foreign_array.h"

#include <algorithm>

#include "arrays/array_view.h"
#include "arrays/dtypes.h"

namespace mseloss::python {

void raise_dtype(const char* name, PyObject* dtype) {
  Ref text(PyObject_Str(dtype));
  if (!text) {
    take_refusal();
    raise(PyExc_TypeError, "%s: expected %s, got another dtype", name, kDTypeNames);
  }
  raise(PyExc_TypeError, "%s: expected %s, got %U", name, kDTypeNames, text.get());
}

void raise_refused(const char* name, PyObject* object, Ref refusal) {
  const Ref reason = reason_of(refusal);
  raise_from(std::move(refusal), PyExc_TypeError,
             "%s: expected an array that exports its memory, got one whose type %s refuses: %U", name,
             Py_TYPE(object)->tp_name, reason.get());
}

static_assert(sizeof(Py_ssize_t) == sizeof(int64_t));

void ArrayView::accept(const ForeignArray& array) {
  const char* name = name_;
  const int64_t size = size_of(dtype_);
  set_rank(array.rank);
  if (array.shape == nullptr && rank_ == 1 && array.bytes >= 0) {
    shape_[0] = array.bytes / size;
  } else if (array.shape == nullptr && rank_ > 0) {
    raise(PyExc_ValueError, "%s: expected %d extents, got no shape", name, rank_);
  } else {
    std::copy_n(array.shape, rank_, shape_);
  }
  int64_t bytes = size;  // of all elements
  bool fits = true, empty = false;
  for (const int64_t extent : shape()) {
    if (extent < 0) {
      raise(PyExc_ValueError, "%s: expected extents of at least 0, got %lld", name,
            static_cast<long long>(extent));
    }
    empty = empty || extent == 0;
    if (extent != 0) fits = fits && !__builtin_mul_overflow(bytes, extent, &bytes);
  }
  if (array.strides == nullptr) {
    int64_t dense = 1;
    for (int i = rank_; i-- > 0;) {
      strides_[i] = dense;
      if (fits) dense *= std::max<int64_t>(shape_[i], 1);
    }
  } else if (array.byte_strides) {
    set_byte_strides(reinterpret_cast<const Py_ssize_t*>(array.strides));
  } else {
    std::copy_n(array.strides, rank_, strides_);
  }
  read_only_ = array.read_only;
  data_ = array.data;
  int64_t lowest = 0, highest = size;  // bytes from element (0, ..., 0)
  for (int i = 0; i < rank_ && fits && !empty; ++i) {
    int64_t last;
    if (shape_[i] == 1) continue;
    fits = !__builtin_mul_overflow(strides_[i], size, &last) &&
           !__builtin_mul_overflow(last, shape_[i] - 1, &last) &&
           !__builtin_add_overflow(last < 0 ? lowest : highest, last, last < 0 ? &lowest : &highest);
  }
  if (empty) return;
  if (data_ == nullptr) {
    raise(PyExc_ValueError, "%s: expected memory for %lld bytes, got a null pointer", name,
          static_cast<long long>(bytes));
  }
  const auto address = reinterpret_cast<uintptr_t>(data_);
  uintptr_t first, begin, end;
  fits = fits && !__builtin_add_overflow(address, array.offset, &first) &&
         !__builtin_add_overflow(first, lowest, &begin) && !__builtin_add_overflow(first, highest, &end);
  if (!fits) {
    raise(PyExc_ValueError, "%s: expected an array inside the address space, got larger extents or strides",
          name);
  }
  if (array.bytes >= 0 && array.bytes < bytes) {
    raise(PyExc_ValueError, "%s: expected a buffer of %lld bytes, as its shape says, got one of %lld", name,
          static_cast<long long>(bytes), static_cast<long long>(array.bytes));
  }
  if (const auto memory = reinterpret_cast<uintptr_t>(array.memory.begin);
      memory != 0 && (begin < memory || end > memory + static_cast<uintptr_t>(array.memory.size))) {
    raise(PyExc_ValueError,
          "%s: expected elements inside their buffer of %lld bytes, got bytes %lld to %lld of it", name,
          static_cast<long long>(array.memory.size), static_cast<long long>(begin - memory),
          static_cast<long long>(end - memory));
  }
  data_ = reinterpret_cast<void*>(first);
}

}  // namespace mseloss::python
