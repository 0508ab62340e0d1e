#include "arrays/torch_output.h"

#include <nanobind/nanobind.h>

#include "arrays/errors.h"

namespace mseloss::python {
namespace {

namespace nb = nanobind;

// The parts of PyTorch that this file uses; the references are never released.
struct Torch {
  explicit Torch(nb::handle torch)
      : tensor_type(torch.attr("Tensor").inc_ref()),
        is_grad_enabled(torch.attr("is_grad_enabled").inc_ref()),
        is_inference_mode_enabled(torch.attr("is_inference_mode_enabled").inc_ref()),
        forward_ad(torch.attr("autograd").attr("forward_ad").inc_ref()),
        increment_version(torch.attr("autograd").attr("graph").attr("increment_version").inc_ref()),
        requires_grad(PyUnicode_InternFromString("requires_grad")),
        is_inference(PyUnicode_InternFromString("is_inference")) {
    const nb::handle native = torch.attr("_C");
    constexpr const char* kIsExcluded = "_dispatch_tls_is_dispatch_key_excluded";
    if (!nb::hasattr(native, kIsExcluded) || !nb::hasattr(native, "DispatchKey")) return;
    is_key_excluded = native.attr(kIsExcluded).inc_ref();
    view_key = native.attr("DispatchKey").attr("ADInplaceOrView").inc_ref();
  }
  nb::handle tensor_type, is_grad_enabled, is_inference_mode_enabled, forward_ad, increment_version;
  nb::handle requires_grad, is_inference;  // attributes of a tensor
  nb::handle is_key_excluded, view_key;    // private; may be absent
};

// Null unless `object` is a PyTorch tensor. Does not import PyTorch.
const Torch* torch_of(PyObject* object) {
  const nb::handle module = PyDict_GetItemString(PyImport_GetModuleDict(), "torch");
  if (!module.is_valid()) return nullptr;
  static const Torch torch(module);
  return nb::isinstance(object, torch.tensor_type) ? &torch : nullptr;
}

// Whether the tensor has a tangent, which a write to its memory would leave as it is.
bool is_dual(const Torch& torch, nb::handle tensor) {
  const nb::object level = torch.forward_ad.attr("_current_level");
  if (nb::cast<int>(level) < 0) return false;
  // Below a dispatch mode, as in a trace, tensors have no tangents, and unpack_dual() fails.
  if (torch.is_key_excluded.is_valid() && torch.is_key_excluded(torch.view_key).is(Py_True)) return false;
  return !torch.forward_ad.attr("unpack_dual")(tensor).attr("tangent").is_none();
}

}  // namespace

void check_torch_output(PyObject* object, const char* name) {
  const Torch* torch = torch_of(object);
  if (torch == nullptr) return;
  const nb::handle tensor = object;
  if (tensor.attr(torch->requires_grad).is(Py_True) && torch->is_grad_enabled().is(Py_True)) {
    raise(PyExc_RuntimeError,
          "%s: expected a tensor that does not require grad, or grad mode disabled, because writing to it is "
          "not differentiable, got one that requires grad",
          name);
  }
  if (tensor.attr(torch->is_inference)().is(Py_True) && torch->is_inference_mode_enabled().is(Py_False)) {
    raise(PyExc_RuntimeError,
          "%s: expected a normal tensor, because inference mode is disabled, got an inference tensor", name);
  }
  if (is_dual(*torch, tensor)) {
    raise(PyExc_NotImplementedError,
          "%s: expected a tensor without a tangent, because writing to it is not differentiable, got a dual "
          "tensor",
          name);
  }
}

void mark_torch_output_written(PyObject* object) {
  if (const Torch* torch = torch_of(object)) torch->increment_version(nb::handle(object));
}

}  // namespace mseloss::python
