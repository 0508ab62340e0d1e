#include "arrays/dlpack.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <type_traits>

#include "arrays/errors.h"
#include "arrays/foreign_array.h"

namespace mseloss::python {
namespace {

// A consumer renames the capsule; until then the capsule's destructor frees the tensor.
template <class Managed>
PyObject* new_capsule(Managed* managed) {
  static constexpr const char* name =
      std::is_same_v<Managed, DLManagedTensorVersioned> ? "dltensor_versioned" : "dltensor";
  PyObject* capsule = PyCapsule_New(managed, name, [](PyObject* self) {
    if (!PyCapsule_IsValid(self, name)) return;
    auto* tensor = static_cast<Managed*>(PyCapsule_GetPointer(self, name));
    tensor->deleter(tensor);
  });
  if (capsule == nullptr) raise_current();
  return capsule;
}

}  // namespace

DLDataType dlpack_dtype(DType dtype) {
  return {dtype == DType::kBFloat16 ? kDLBfloat : kDLFloat, static_cast<uint8_t>(8 * size_of(dtype)), 1};
}

const DLPackExchangeAPI* exchange_api(PyTypeObject* type, const char* name) {
  // The first 8 types seen, in practice torch.Tensor and torch.nn.Parameter. Each is kept alive, so that no
  // later type can have its address.
  struct Entry {
    std::atomic<PyTypeObject*> type{nullptr};
    const DLPackExchangeAPI* api = nullptr;
  };
  static Entry entries[8];
  static std::mutex mutex;
  for (const Entry& entry : entries) {
    PyTypeObject* known = entry.type.load(std::memory_order_acquire);
    if (known == type) return entry.api;
    if (known == nullptr) break;
  }
  Ref refusal;
  const Ref capsule =
      find_attribute(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__", &refusal);
  if (refusal) raise_refused(name, reinterpret_cast<PyObject*>(type), std::move(refusal));
  if (!capsule) return nullptr;
  if (!PyCapsule_IsValid(capsule.get(), "dlpack_exchange_api")) {
    raise(PyExc_TypeError, "%s: expected __dlpack_c_exchange_api__ to be a capsule of that API, got %s", name,
          Py_TYPE(capsule.get())->tp_name);
  }
  auto* api = static_cast<DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule.get(), "dlpack_exchange_api"));
  while (api != nullptr && api->version.major != 1) api = api->previous;
  const std::lock_guard lock(mutex);
  for (Entry& entry : entries) {
    if (entry.type.load(std::memory_order_relaxed) != nullptr) continue;
    Py_INCREF(type);
    entry.api = api;
    entry.type.store(type, std::memory_order_release);
    break;
  }
  return api;
}

DLPackExport::~DLPackExport() {
  if (managed_ != nullptr) managed_->deleter(managed_);
}

PyObject* DLPackExport::capsule(bool versioned) {
  if (managed_ == nullptr) raise(PyExc_BufferError, "this memory has already been exported");
  PyObject* result;
  if (versioned) {
    result = new_capsule(managed_);
  } else {
    auto legacy = std::make_unique<DLManagedTensor>();
    legacy->dl_tensor = managed_->dl_tensor;
    legacy->manager_ctx = managed_;
    legacy->deleter = [](DLManagedTensor* self) {
      auto* tensor = static_cast<DLManagedTensorVersioned*>(self->manager_ctx);
      tensor->deleter(tensor);
      delete self;
    };
    result = new_capsule(legacy.get());
    legacy.release();
  }
  managed_ = nullptr;
  return result;
}

}  // namespace mseloss::python
