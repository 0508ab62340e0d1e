#include "arrays/dlpack.h"

#include <atomic>
#include <memory>
#include <mutex>

#include "arrays/errors.h"

namespace mseloss::python {

const DLPackExchangeAPI* exchange_api(PyTypeObject* type) {
  // The first types seen, for ever: torch.Tensor and torch.nn.Parameter in practice. A type that is kept
  // alive cannot share its address with another.
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
  PyObject* capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
  if (capsule == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  auto* api = static_cast<DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  Py_DECREF(capsule);
  if (api == nullptr) raise_current();
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
  if (managed_ == nullptr) raise(PyExc_BufferError, "this memory has been handed over already");
  if (versioned) {
    PyObject* capsule = PyCapsule_New(managed_, "dltensor_versioned", [](PyObject* self) {
      if (!PyCapsule_IsValid(self, "dltensor_versioned")) return;  // consumed, and renamed
      auto* tensor = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(self, "dltensor_versioned"));
      tensor->deleter(tensor);
    });
    if (capsule == nullptr) raise_current();
    managed_ = nullptr;
    return capsule;
  }
  auto legacy = std::make_unique<DLManagedTensor>();
  legacy->dl_tensor = managed_->dl_tensor;
  legacy->manager_ctx = managed_;
  legacy->deleter = [](DLManagedTensor* self) {
    auto* tensor = static_cast<DLManagedTensorVersioned*>(self->manager_ctx);
    tensor->deleter(tensor);
    delete self;
  };
  PyObject* capsule = PyCapsule_New(legacy.get(), "dltensor", [](PyObject* self) {
    if (!PyCapsule_IsValid(self, "dltensor")) return;
    auto* tensor = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(self, "dltensor"));
    tensor->deleter(tensor);
  });
  if (capsule == nullptr) raise_current();
  legacy.release();
  managed_ = nullptr;
  return capsule;
}

}  // namespace mseloss::python
