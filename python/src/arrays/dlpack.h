// The parts of DLPack 1.x that the module exchanges (dmlc/dlpack, include/dlpack/dlpack.h), and a type's C
// exchange API. The layout of the structures is a binary interface.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>
#include <utility>

#include "mseloss/mseloss.h"

namespace mseloss::python {

struct DLDevice {
  int32_t type, id;
};
inline constexpr int32_t kDLCPU = 1, kDLCUDA = 2, kDLCUDAHost = 3, kDLROCMHost = 11, kDLCUDAManaged = 13;

struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
  bool operator==(const DLDataType&) const = default;
};
inline constexpr uint8_t kDLFloat = 2, kDLBfloat = 4, kDLBool = 6;

struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: dense, row-major
  uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
};

struct DLPackVersion {
  uint32_t major, minor;
};
inline constexpr DLPackVersion kDLPackVersion = {1, 1};
inline constexpr uint64_t kDLPackReadOnly = 1, kDLPackIsCopied = 2;

struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor dl_tensor;
};

// What the capsule type(tensor).__dlpack_c_exchange_api__ contains: conversions that run no Python code.
struct DLPackExchangeAPI {
  DLPackVersion version;
  DLPackExchangeAPI* previous;
  int (*allocate)(DLTensor*, DLManagedTensorVersioned**, void*, void (*)(void*, const char*, const char*));
  int (*managed_from_object)(void*, DLManagedTensorVersioned**);
  int (*managed_to_object)(DLManagedTensorVersioned*, void**);
  int (*view_from_object)(void*, DLTensor*);  // not owning; may be null
  int (*current_stream)(int32_t, int32_t, void**);
};

DLDataType dlpack_dtype(DType dtype);

// The type's exchange API of DLPack 1, or null; cached per type. Needs the GIL. `name` is the parameter's
// name in error messages.
const DLPackExchangeAPI* exchange_api(PyTypeObject* type, const char* name);

// Passes a managed tensor to a library's `from_dlpack`, which calls `__dlpack__` on it.
class DLPackExport {
 public:
  // Takes ownership.
  explicit DLPackExport(DLManagedTensorVersioned* managed) : managed_(managed) {}
  DLPackExport(DLPackExport&& other) noexcept : managed_(std::exchange(other.managed_, nullptr)) {}
  ~DLPackExport();
  // A new reference. Raises BufferError when called again. `versioned`: for a consumer of DLPack 1.0 or
  // newer.
  PyObject* capsule(bool versioned);

 private:
  DLManagedTensorVersioned* managed_;
};

}  // namespace mseloss::python
