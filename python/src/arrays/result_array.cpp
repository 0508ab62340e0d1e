#include "arrays/result_array.h"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "arrays/errors.h"
#include "arrays/numpy_bridge.h"
#include "memory/pool.h"

namespace mseloss::python {
namespace {

namespace nb = nanobind;

// DLPack's tensor and what it points to.
struct ManagedResult {
  DLManagedTensorVersioned tensor;
  Block* block;
  int64_t shape[kMaxRank];
  int64_t strides[kMaxRank];
};

// May run on any thread, without the GIL, and after the interpreter has shut down.
void delete_managed(DLManagedTensorVersioned* tensor) {
  auto* managed = static_cast<ManagedResult*>(tensor->manager_ctx);
  release(managed->block);
  delete managed;
}

void delete_block(PyObject* capsule) { release(static_cast<Block*>(PyCapsule_GetPointer(capsule, nullptr))); }

[[noreturn]] void raise_memory(size_t bytes) {
  raise(PyExc_MemoryError, "expected %zu bytes for the result, got none from the system", bytes);
}

}  // namespace

void dense_strides(std::span<const int64_t> shape, std::span<const int64_t> like, int64_t* strides) {
  int order[kMaxRank], rank = 0;  // dimensions of extent 1 are left out: they get stride 1
  for (int i = 0; i < static_cast<int>(shape.size()); ++i) {
    strides[i] = 1;
    if (shape[i] != 1) order[rank++] = i;
  }
  if (rank > 1 && like.size() == shape.size()) {
    const auto distance = [&](int i) { return std::abs(like[i]); };
    const bool expanded = std::any_of(order, order + rank, [&](int i) { return distance(i) == 0; });
    for (int i = 1; i < rank && !expanded; ++i) {
      for (int j = i; j > 0 && distance(order[j - 1]) < distance(order[j]); --j)
        std::swap(order[j - 1], order[j]);
    }
  }
  int64_t dense = 1;
  for (int i = rank; i-- > 0;) {
    strides[order[i]] = dense;
    dense *= std::max<int64_t>(shape[order[i]], 1);
  }
}

ResultArray::~ResultArray() {
  Py_XDECREF(array_);
  if (managed_ != nullptr) managed_->deleter(managed_);
}

void ResultArray::allocate(std::span<const int64_t> shape, DType dtype, const ArrayView* like) {
  rank_ = static_cast<int>(shape.size());
  dtype_ = dtype;
  kind_ = like == nullptr ? ArrayKind::kNumpy : like->kind();
  like_ = like == nullptr ? nullptr : like->object();
  std::copy(shape.begin(), shape.end(), shape_);
  const bool same = like != nullptr && std::ranges::equal(like->shape(), shape);
  dense_strides(shape, same ? like->strides() : std::span<const int64_t>{}, strides_);
  int64_t bytes;
  if (__builtin_mul_overflow(element_count(shape), size_of(dtype), &bytes)) {
    raise(PyExc_MemoryError, "expected a result of less than 2^63 bytes, got a larger broadcast shape");
  }
  if (kind_ == ArrayKind::kNumpy) {
    allocate_numpy(static_cast<size_t>(bytes));
    data_ = numpy_view(array_).data;
  } else {
    allocate_managed(static_cast<size_t>(bytes));
    data_ = managed_->dl_tensor.data;
  }
}

void ResultArray::allocate_numpy(size_t bytes) {
  if (bytes < kMinPooledBytes) {
    array_ = new_numpy_array(rank_, shape_, strides_, dtype_);
    return;
  }
  Block* block = acquire(bytes);
  if (block == nullptr) raise_memory(bytes);
  PyObject* owner = PyCapsule_New(block, nullptr, delete_block);
  if (owner == nullptr) {
    release(block);
    raise_current();
  }
  array_ = new_numpy_array(rank_, shape_, strides_, dtype_, block->data, owner);
}

void ResultArray::allocate_managed(size_t bytes) {
  Block* block = acquire(bytes);
  if (block == nullptr) raise_memory(bytes);
  auto* managed = new ManagedResult{};
  managed->block = block;
  std::copy_n(shape_, rank_, managed->shape);
  std::copy_n(strides_, rank_, managed->strides);
  managed_ = &managed->tensor;
  managed_->version = kDLPackVersion;
  managed_->manager_ctx = managed;
  managed_->deleter = delete_managed;
  managed_->flags = 0;
  managed_->dl_tensor = {block->data,    {kDLCPU, 0},      rank_, dlpack_dtype(dtype_),
                         managed->shape, managed->strides, 0};
}

PyObject* ResultArray::finish(bool scalar) {
  if (kind_ == ArrayKind::kNumpy) {
    PyObject* array = std::exchange(array_, nullptr);
    return scalar && rank_ == 0 ? numpy_array_to_scalar(array) : array;
  }
  if (kind_ == ArrayKind::kExchange) {
    void* tensor = nullptr;
    if (exchange_api(Py_TYPE(like_))->managed_to_object(std::exchange(managed_, nullptr), &tensor) != 0) {
      raise_current();
    }
    return static_cast<PyObject*>(tensor);
  }
  nb::object exported = nb::cast(DLPackExport(std::exchange(managed_, nullptr)));
  // The array API standard's way to a library's functions. Objects that do not follow it give a NumPy array.
  nb::handle like(like_);
  nb::object library = nb::hasattr(like, "__array_namespace__") ? like.attr("__array_namespace__")()
                                                                : nb::module_::import_("numpy");
  return library.attr("from_dlpack")(exported).release().ptr();
}

}  // namespace mseloss::python
