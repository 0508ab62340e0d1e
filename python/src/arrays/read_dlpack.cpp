// Reads DLPack capsules and tensors of DLPack's C exchange API.
#include <algorithm>
#include <cstring>

#include "arrays/array_view.h"
#include "arrays/dtypes.h"
#include "arrays/foreign_array.h"
#include "module/device.h"

namespace mseloss::python {
namespace {

// PyTorch marks some views as negated by a flag that its DLPack exports omit.
void reject_lazy_negation(PyObject* object, const char* name) {
  Ref refusal;
  const Ref method = find_attribute(object, "is_neg", &refusal);
  if (!method && !refusal) return;  // not a PyTorch tensor
  const Ref answer(method ? PyObject_CallNoArgs(method.get()) : nullptr);
  if (method && !answer) note_refusal(&refusal);
  if (refusal) raise_refused(name, object, std::move(refusal));
  if (answer.get() == Py_True) {
    raise(PyExc_TypeError, "%s: expected a materialised tensor, got a lazily negated one: call resolve_neg()",
          name);
  }
}

// The kind of results for an object without an exchange API. Objects that follow the array API standard lead
// to their library's `from_dlpack` by __array_namespace__; for others the result is a NumPy array.
ArrayKind library_kind(PyObject* object, const char* name) {
  Ref refusal;
  const Ref library = find_attribute(object, "__array_namespace__", &refusal);
  if (refusal) raise_refused(name, object, std::move(refusal));
  return library ? ArrayKind::kDLPack : ArrayKind::kNumpy;
}

// For subclasses that wrap other tensors or trace operators, and for tensors whose storage has been freed.
[[noreturn]] void raise_without_memory(PyObject* object, const char* name) {
  raise(PyExc_TypeError, "%s: expected a tensor with memory of its own, got a %s without any", name,
        Py_TYPE(object)->tp_name);
}

// PyTorch represents some zeros, such as the gradient of sgn, by a tensor without memory.
bool is_zero_tensor(PyObject* object) {
  Ref refusal;
  const Ref method = find_attribute(object, "_is_zerotensor", &refusal);
  const Ref answer(method ? PyObject_CallNoArgs(method.get()) : nullptr);
  if (method && !answer) raise_current();
  return answer.get() == Py_True;
}

}  // namespace

void ArrayView::read_dltensor(const DLTensor& tensor, ForeignArray array) {
  const int device = tensor.device.type;
  if (device == kDLCUDA) throw DeviceMemory{name_};
  if (device != kDLCPU && device != kDLCUDAHost && device != kDLROCMHost && device != kDLCUDAManaged) {
    raise(PyExc_TypeError, "%s: expected memory of this processor, got a tensor on DLPack device type %d",
          name_, device);
  }
  static constexpr DType kBool = DType::kBool;
  const DType* dtype = std::ranges::find(kDTypes, tensor.dtype, dlpack_dtype);
  if (weight_ && tensor.dtype == dlpack_dtype(kBool)) dtype = &kBool;
  if (dtype == std::end(kDTypes)) {
    Ref refusal;
    const Ref given = find_attribute(object_, "dtype", &refusal);
    if (given) raise_dtype(name_, given.get(), dtype_names());
    raise(PyExc_TypeError, "%s: expected %s, got DLPack type code %d of %d bits and %d lanes", name_,
          dtype_names(), tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes);
  }
  dtype_ = *dtype;
  array.data = tensor.data;
  array.offset = tensor.byte_offset;
  array.rank = tensor.ndim;
  array.shape = tensor.shape;
  array.strides = tensor.strides;
  accept(array);
}

bool ArrayView::read_exchange(PyObject* object) {
  const DLPackExchangeAPI* api = exchange_api(Py_TYPE(object), name_);
  if (api == nullptr || api->view_from_object == nullptr) return false;
  DLTensor tensor;
  // PyTorch would answer with a null pointer, and with a warning on standard error that speaks of a defect.
  if (std::strcmp(Py_TYPE(object)->tp_name, "FakeTensor") == 0) raise_without_memory(object, name_);
  if (api->view_from_object(object, &tensor) != 0) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_BufferError, "the tensor cannot be exported");
    Ref refusal = take_refusal();
    const Ref reason = reason_of(refusal);
    raise_from(std::move(refusal), PyExc_TypeError,
               "%s: expected a dense-storage tensor of this processor, got one that %s refuses to export: %U",
               name_, Py_TYPE(object)->tp_name, reason.get());
  }
  reject_lazy_negation(object, name_);
  if (tensor.data == nullptr && is_zero_tensor(object)) {
    if (writable_) raise(PyExc_TypeError, "%s: expected a tensor with memory, got a zero tensor", name_);
    owner_ = PyObject_CallMethod(object, "clone", nullptr);
    if (owner_ == nullptr || api->view_from_object(owner_, &tensor) != 0) raise_current();
  } else if (tensor.data == nullptr && tensor.ndim >= 0 &&
             std::find(tensor.shape, tensor.shape + tensor.ndim, 0) == tensor.shape + tensor.ndim) {
    raise_without_memory(object, name_);
  }
  kind_ = api->managed_to_object == nullptr ? library_kind(object, name_) : ArrayKind::kExchange;
  read_dltensor(tensor, {});
  return true;
}

bool ArrayView::read_dlpack(PyObject* object, Ref* refusal) {
  const Ref method = find_attribute(object, "__dlpack__", refusal);
  if (!method) return false;
  reject_lazy_negation(object, name_);  // a PyTorch older than the exchange API
  // Producers older than DLPack 1.0 do not accept max_version, and cannot mark memory as read-only.
  const Ref no_arguments(PyTuple_New(0)), keywords(Py_BuildValue("{s(ii)}", "max_version", 1, 1));
  if (!no_arguments || !keywords) raise_current();
  owner_ = PyObject_Call(method.get(), no_arguments.get(), keywords.get());
  if (owner_ == nullptr && PyErr_ExceptionMatches(PyExc_TypeError)) {
    PyErr_Clear();
    owner_ = PyObject_CallNoArgs(method.get());
  }
  if (owner_ == nullptr) {
    note_refusal(refusal);
    return false;
  }
  // The capsule is not consumed: its destructor calls the producer's deleter.
  const char* kind = PyCapsule_CheckExact(owner_) ? PyCapsule_GetName(owner_) : nullptr;
  ForeignArray array;
  kind_ = library_kind(object, name_);
  if (kind != nullptr && std::strcmp(kind, "dltensor_versioned") == 0) {
    const auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(owner_, kind));
    if (managed->version.major != 1) {
      raise(PyExc_TypeError, "%s: expected DLPack 1, got version %u", name_, managed->version.major);
    }
    if (writable_ && (managed->flags & kDLPackIsCopied) != 0) {
      raise(PyExc_TypeError, "%s: expected an array to write to, got one that exports a copy", name_);
    }
    array.read_only = (managed->flags & kDLPackReadOnly) != 0;
    read_dltensor(managed->dl_tensor, array);
  } else if (kind != nullptr && std::strcmp(kind, "dltensor") == 0) {
    read_dltensor(static_cast<DLManagedTensor*>(PyCapsule_GetPointer(owner_, kind))->dl_tensor, array);
  } else if (kind != nullptr && std::strncmp(kind, "used_dltensor", 13) == 0) {
    raise(PyExc_TypeError, "%s: expected a new DLPack capsule, got one that has been used already", name_);
  } else {
    raise(PyExc_TypeError, "%s: expected a DLPack capsule from __dlpack__, got %s", name_,
          PyCapsule_CheckExact(owner_) ? "another capsule" : Py_TYPE(owner_)->tp_name);
  }
  // JAX arrays are immutable, but their DLPack export does not say so.
  if (std::strncmp(Py_TYPE(object)->tp_name, "jaxlib.", 7) == 0) read_only_ = true;
  return true;
}

}  // namespace mseloss::python
