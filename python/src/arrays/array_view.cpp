#include "arrays/array_view.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "arrays/dtypes.h"
#include "arrays/foreign_array.h"
#include "arrays/numbers.h"
#include "arrays/numpy_bridge.h"
#include "module/device.h"

namespace mseloss::python {
namespace {

// Reading a masked array's memory would use the values that it hides.
void reject_mask(PyObject* array, const char* name) {
  const int masked = numpy_has_mask(array);
  if (masked < 0) raise_refused(name, array, take_refusal());
  if (masked > 0) {
    raise(PyExc_TypeError,
          "%s: expected values without a mask, got a masked array: call filled() or compressed()", name);
  }
}

}  // namespace

ArrayView::~ArrayView() {
  if (has_buffer_) PyBuffer_Release(&buffer_);
  Py_XDECREF(owner_);
}

void ArrayView::read(PyObject* object, const char* name) {
  object_ = object;
  name_ = name;
  if (!read_numpy(object)) read_other(object);
}

void ArrayView::read_other(PyObject* object) {
  Ref refusal;
  // A class has its instances' attributes, but is no array.
  if (!PyType_Check(object)) {
    if (read_foreign(object, &refusal)) return;
    if (const Ref interface = find_attribute(object, "__cuda_array_interface__", &refusal))
      throw DeviceMemory{name_};
    if (read_copy(object, &refusal)) return;
  }
  if (refusal) raise_refused(name_, object, std::move(refusal));
  raise(PyExc_TypeError,
        "%s: expected an array (NumPy, PyTorch, JAX, DLPack, the buffer protocol or __array__), got %s",
        name_, Py_TYPE(object)->tp_name);
}

void ArrayView::read_or_scalar(PyObject* object, const char* name, DType dtype) {
  Ref integer;
  PyObject* number = object;
  if (!PyFloat_Check(object) && !PyLong_Check(object)) {
    if (is_numpy_array(object) || !is_numpy_integer(object)) return read(object, name);
    integer = Ref(numpy_integer_to_int(object));
    number = integer.get();
  }
  store_number(number, dtype, scalar_);
  object_ = object;
  name_ = name;
  data_ = scalar_;
  dtype_ = dtype;
  rank_ = 0;
}

void ArrayView::read_weight(PyObject* object, const char* name) {
  weight_ = true;
  read(object, name);
}

const char* ArrayView::dtype_names() const { return weight_ ? kWeightDTypeNames : kDTypeNames; }

void ArrayView::read_writable(PyObject* object, const char* name) {
  writable_ = true;
  read(object, name);
  if (read_only_) raise(PyExc_ValueError, "%s: expected writable memory, got a read-only array", name);
}

bool ArrayView::read_foreign(PyObject* object, Ref* refusal) {
  return read_exchange(object) || read_dlpack(object, refusal) || read_buffer(object, refusal) ||
         read_interface(object, refusal);
}

bool ArrayView::read_copy(PyObject* object, Ref* refusal) {
  if (!PyList_Check(object) && !PyTuple_Check(object)) {
    const Ref method = find_attribute(object, "__array__", refusal);
    const Ref structure = method ? Ref() : find_attribute(object, "__array_struct__", refusal);
    if (!method && !structure) return false;
  }
  if (writable_) {
    raise(PyExc_TypeError, "%s: expected an array that can be written, got %s, which can only be copied",
          name_, Py_TYPE(object)->tp_name);
  }
  Ref copy(numpy_asarray(object));
  if (!copy) {
    note_refusal(refusal);
    return false;
  }
  owner_ = copy.release();
  read_numpy(owner_);
  read_only_ = true;
  return true;
}

void ArrayView::set_rank(int64_t rank) {
  if (rank < 0 || rank > kMaxReadRank) {
    raise(PyExc_ValueError, "%s: expected at %s %d dimensions, got %lld", name_, rank < 0 ? "least" : "most",
          rank < 0 ? 0 : kMaxRank, static_cast<long long>(rank));
  }
  rank_ = static_cast<int>(rank);
}

void ArrayView::set_extents(const Py_ssize_t* shape, const Py_ssize_t* byte_strides) {
  const int size = size_of(dtype_);
  const int shift = std::countr_zero(static_cast<unsigned>(size));
  for (int i = 0; i < rank_; ++i) {
    shape_[i] = shape[i];
    strides_[i] = byte_strides[i] >> shift;
    if ((byte_strides[i] & (size - 1)) != 0 && shape_[i] > 1) {
      raise(PyExc_ValueError, "%s: expected strides of whole elements (%d bytes), got a stride of %zd bytes",
            name_, size, byte_strides[i]);
    }
  }
}

bool ArrayView::read_numpy(PyObject* object) {
  if (!is_numpy_array(object)) {
    if (!is_numpy_scalar(object)) return false;
    owner_ = numpy_scalar_to_array(object);
    object = owner_;
  }
  const NumpyView array = numpy_view(object);
  if (!array.supported || !accepts(array.dtype)) raise_dtype(name_, array.descr, dtype_names());
  if (!array.exact) reject_mask(object, name_);
  data_ = array.data;
  dtype_ = array.dtype;
  kind_ = ArrayKind::kNumpy;
  read_only_ = !array.writable || owner_ != nullptr;
  set_rank(array.rank);
  set_extents(array.shape, array.strides);
  return true;
}

PyObject* ArrayView::to_numpy() {
  if (is_numpy_array(object_)) return Py_NewRef(object_);
  if (rank_ > kMaxRank) {
    raise(PyExc_ValueError, "%s: expected at most %d dimensions, got %d", name_, kMaxRank, rank_);
  }
  // A memoryview keeps a buffer exported, so that its memory neither moves nor shrinks.
  const Ref buffer(has_buffer_ ? PyMemoryView_FromObject(buffer_.obj) : Py_NewRef(Py_None));
  PyObject* owner =
      buffer ? PyTuple_Pack(3, object_, owner_ == nullptr ? Py_None : owner_, buffer.get()) : nullptr;
  if (owner == nullptr) raise_current();
  PyObject* array = new_numpy_array(rank_, shape_, strides_, dtype_, data_, owner);
  numpy_set_read_only(array);
  return array;
}

}  // namespace mseloss::python
