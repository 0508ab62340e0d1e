#include "arrays/foreign_array.h"

#include <algorithm>
#include <cstdint>

#include "arrays/array_view.h"
#include "arrays/dtypes.h"

namespace mseloss::python {

void raise_dtype(const char* name, PyObject* dtype, const char* expected) {
  Ref text(PyObject_Str(dtype));
  if (!text) {
    take_refusal();
    raise(PyExc_TypeError, "%s: expected %s, got another dtype", name, expected);
  }
  raise(PyExc_TypeError, "%s: expected %s, got %U", name, expected, text.get());
}

void raise_refused(const char* name, PyObject* object, Ref refusal) {
  const Ref reason = reason_of(refusal);
  raise_from(std::move(refusal), PyExc_TypeError,
             "%s: expected an array whose memory can be read, got %s: %U", name, Py_TYPE(object)->tp_name,
             reason.get());
}

static_assert(sizeof(Py_ssize_t) == sizeof(int64_t));

void ArrayView::accept(const ForeignArray& array) {
  accept_layout(array);
  if (std::ranges::find(shape(), 0) == shape().end()) accept_memory(array);
  read_only_ = array.read_only;
}

void ArrayView::accept_layout(const ForeignArray& array) {
  set_rank(array.rank);
  if (array.shape == nullptr && rank_ == 1 && array.bytes >= 0) {
    shape_[0] = array.bytes / size_of(dtype_);
  } else if (array.shape == nullptr && rank_ > 0) {
    raise(PyExc_ValueError, "%s: expected %d extents, got no shape", name_, rank_);
  } else {
    std::copy_n(array.shape, rank_, shape_);
  }
  for (const int64_t extent : shape()) {
    if (extent >= 0) continue;
    raise(PyExc_ValueError, "%s: expected extents of at least 0, got %lld", name_,
          static_cast<long long>(extent));
  }
  if (array.strides == nullptr) {
    uint64_t dense = 1;  // accept_memory() rejects products that overflow
    for (int i = rank_; i-- > 0;) {
      strides_[i] = static_cast<int64_t>(dense);
      dense *= static_cast<uint64_t>(std::max<int64_t>(shape_[i], 1));
    }
  } else if (array.byte_strides) {
    set_extents(reinterpret_cast<const Py_ssize_t*>(shape_),
                reinterpret_cast<const Py_ssize_t*>(array.strides));
  } else {
    std::copy_n(array.strides, rank_, strides_);
  }
}

// Of an array that has elements.
void ArrayView::accept_memory(const ForeignArray& array) {
  const int64_t size = size_of(dtype_);
  int64_t bytes = size;                // of all elements
  int64_t lowest = 0, highest = size;  // of the elements' bytes, from element (0, ..., 0)
  bool fits = true;
  for (int i = 0; i < rank_ && fits; ++i) {
    int64_t last;
    if (shape_[i] == 1) continue;
    fits = !__builtin_mul_overflow(bytes, shape_[i], &bytes) &&
           !__builtin_mul_overflow(strides_[i], size, &last) &&
           !__builtin_mul_overflow(last, shape_[i] - 1, &last) &&
           !__builtin_add_overflow(last < 0 ? lowest : highest, last, last < 0 ? &lowest : &highest);
  }
  const auto address = reinterpret_cast<uintptr_t>(array.data);
  uintptr_t first, begin, end;
  // No object is larger than half the address space, so a larger offset leads out of any.
  fits = fits && array.offset <= PTRDIFF_MAX && !__builtin_add_overflow(address, array.offset, &first) &&
         !__builtin_add_overflow(first, lowest, &begin) && !__builtin_add_overflow(first, highest, &end);
  if (address == 0) {
    raise(PyExc_ValueError, "%s: expected memory for the elements, got a null pointer", name_);
  }
  if (!fits) {
    raise(PyExc_ValueError, "%s: expected an array inside the address space, got larger extents or strides",
          name_);
  }
  if (array.bytes != ForeignArray::kUnknown && array.bytes < bytes) {
    raise(PyExc_ValueError, "%s: expected a buffer of %lld bytes for its shape, got %lld bytes", name_,
          static_cast<long long>(bytes), static_cast<long long>(array.bytes));
  }
  const auto memory = reinterpret_cast<uintptr_t>(array.memory.begin);
  if (memory != 0 && (begin < memory || end > memory + static_cast<uintptr_t>(array.memory.size))) {
    raise(PyExc_ValueError,
          "%s: expected elements inside their buffer of %lld bytes, got bytes %lld to %lld of it", name_,
          static_cast<long long>(array.memory.size), static_cast<long long>(begin - memory),
          static_cast<long long>(end - memory));
  }
  data_ = reinterpret_cast<void*>(first);
}

}  // namespace mseloss::python
