// The eager training step of mseloss.torch in C++: EagerStep of mseloss/torch/step.py for two plain CPU
// tensors of the same shape, without the interpreter. Built only if PyTorch is installed at build time, for
// that version, which the module's name contains. Without this module EagerStep does the same, about 20
// microseconds slower.
#include <ATen/ATen.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/SavedTensorHooks.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>

#include <mutex>
#include <optional>
#include <tuple>

#include "module/gil.h"
#include "torch/calls.h"
#include "torch/core_api.h"
#include "torch/nodes.h"
#include "torch/plain_tensors.h"
#include "torch/slices_step.h"
#include "torch/transforms.h"

namespace mseloss::python {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// The backward pass in Python, for all other cases: higher derivatives, mixed dtypes, unusual tensors.
// `gradient` is that gradient if it is input's result, else undefined.
variable_list gradients_from_python(const at::Tensor& grad_output, const at::Tensor& x, const at::Tensor& y,
                                    Reduction reduction, bool of_input, bool of_target,
                                    const at::Tensor& gradient) {
  return gradients_in_python("mseloss.torch.step", [&] {
    return pybind11::make_tuple(wrapped(grad_output), wrapped(x), wrapped(y), reduction_name(reduction),
                                pybind11::make_tuple(of_input, of_target), wrapped(gradient));
  });
}

// The node of a loss in the graph. Not a torch::autograd::Function, whose bookkeeping takes 1.6 us a step.
class MseLossBackward final : public torch::autograd::Node {
 public:
  void save(const at::Tensor& x, const at::Tensor& y, Reduction reduction, at::Tensor gradient) {
    input_ = SavedVariable(x, /*is_output=*/false);
    target_ = SavedVariable(y, /*is_output=*/false);
    reduction_ = reduction;
    gradient_ = std::move(gradient);
  }

  variable_list apply(variable_list&& grad_outputs) override {
    const std::lock_guard lock(mutex_);
    const at::Tensor& grad_output = grad_outputs[0];
    if (!grad_output.defined()) return {at::Tensor(), at::Tensor()};
    const bool of_input = task_should_compute_output(0), of_target = task_should_compute_output(1);
    const bool first_order = !at::GradMode::is_enabled();
    at::Tensor gradient = std::move(gradient_), target_gradient;
    const bool usable = of_input && is_last_pass() && is_plain(grad_output) && !is_intercepted();
    if (gradient.defined() && !(usable && scale(gradient, grad_output, {}, false))) gradient.reset();
    if (gradient.defined() && !of_target) return {gradient, target_gradient};
    const at::Tensor x = input_.unpack(), y = target_.unpack();
    if (first_order && is_plain(grad_output) && is_plain(x) && is_plain(y) && x.sizes() == y.sizes() &&
        !is_intercepted()) {
      if (of_input && !gradient.defined()) gradient = gradient_of(grad_output, x, y, reduction_);
      if (of_target) target_gradient = gradient_of(grad_output, y, x, reduction_);
      if (gradient.defined() == of_input && target_gradient.defined() == of_target) {
        return {gradient, target_gradient};
      }
    }
    return gradients_from_python(grad_output, x, y, reduction_, of_input, of_target, gradient);
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    input_.reset_data();
    target_.reset_data();
    gradient_.reset();
  }

  std::string name() const override { return "MseLossBackward"; }

  // Compiled autograd keys its cache by the first of these and traces the backward pass in the second.
  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& args) const override {
    args.collect(input_, false);
    args.collect(target_, false);
    args.collect(static_cast<int64_t>(reduction_));
  }
  variable_list apply_with_saved(const variable_list& grad_outputs,
                                 torch::dynamo::autograd::SwapSavedVariables& saved) override {
    // The traced tensors are not plain, so that only operators are called.
    const auto backward = [](const variable_list& gradients, const std::vector<c10::IValue>& packed) {
      if (!gradients[0].defined()) return variable_list(2);
      return gradients_from_python(gradients[0], packed[0].toTensor(), packed[1].toTensor(),
                                   static_cast<Reduction>(packed[2].toInt()), packed[3].toInt() != 0,
                                   packed[4].toInt() != 0, {});
    };
    return trace_backward(
        *this, grad_outputs, &saved, {&input_, &target_},
        {static_cast<int64_t>(reduction_), task_should_compute_output(0), task_should_compute_output(1)},
        backward);
  }

 private:
  SavedVariable input_, target_;
  Reduction reduction_ = Reduction::kMean;
  // With respect to the input, for an upstream gradient of 1; undefined if it was not computed or is
  // returned.
  at::Tensor gradient_;
};

// The loss with its node in the graph. Needs the GIL.
at::Tensor differentiable_loss(const at::Tensor& x, const at::Tensor& y, Reduction reduction) {
  at::Tensor value, gradient;
  call_core<pybind11::gil_scoped_release>(x.numel(), [&] {
    // Hooks for saved tensors, checkpointing among them, decide themselves what is kept.
    if (reduction == Reduction::kNone || !x.requires_grad() ||
        at::SavedTensorDefaultHooks::get_hooks(/*ignore_is_tracing=*/true)) {
      value = loss_of(x, y, reduction);
    } else {
      std::tie(value, gradient) = loss_and_gradient_of(x, y, reduction);
    }
  });
  const auto node = make_node<MseLossBackward>(x, y);
  node->save(x, y, reduction, std::move(gradient));
  torch::autograd::set_history(value, node);
  return value;
}

std::optional<Reduction> reduction_of(PyObject* name) {
  if (PyUnicode_Check(name)) {
    for (const Reduction reduction : {Reduction::kMean, Reduction::kSum, Reduction::kNone}) {
      if (PyUnicode_CompareWithASCIIString(name, reduction_name(reduction)) == 0) return reduction;
    }
  }
  return std::nullopt;
}

// The loss without weight and dimensions; undefined to leave it to Python.
at::Tensor whole_loss(const at::Tensor& x, const at::Tensor& y, Reduction reduction) {
  if (!is_plain(x) || !is_plain(y) || x.sizes() != y.sizes() || is_intercepted()) {
    if (x.dim() > kMaxRank) return {};
    Slices all;
    if (reduction != Reduction::kNone) all.summed = (uint32_t{1} << x.dim()) - 1;
    return transformed_loss(x, y, all, reduction);
  }
  if (at::GradMode::is_enabled() && (x.requires_grad() || y.requires_grad())) {
    return differentiable_loss(x, y, reduction);
  }
  return call_core<pybind11::gil_scoped_release>(x.numel(), [&] { return loss_of(x, y, reduction); });
}

// (input, target, reduction) or (input, target, reduction, weight, dim, keepdim) -> the loss, or None if the
// call is left to Python: for other tensors or arguments than the compiled step covers, errors among them,
// and if operators are intercepted.
PyObject* mse_loss(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  const bool sliced = count == 6;
  if ((count != 3 && !sliced) || !THPVariable_CheckExact(arguments[0]) ||
      !THPVariable_CheckExact(arguments[1]) || at::impl::torch_function_mode_enabled()) {
    Py_RETURN_NONE;
  }
  const std::optional<Reduction> reduction = reduction_of(arguments[2]);
  if (!reduction) Py_RETURN_NONE;
  const at::Tensor &x = THPVariable_Unpack(arguments[0]), &y = THPVariable_Unpack(arguments[1]);
  const at::Tensor value = sliced ? sliced_loss(x, y, *reduction, arguments[3], arguments[4], arguments[5])
                                  : whole_loss(x, y, *reduction);
  if (!value.defined()) Py_RETURN_NONE;
  return THPVariable_Wrap(value);
  END_HANDLE_TH_ERRORS
}

PyMethodDef methods[] = {
    {"mse_loss", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(mse_loss)), METH_FASTCALL,
     nullptr},
    {nullptr, nullptr, 0, nullptr},
};
PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_torch_step", nullptr, -1, methods, {}, {}, {}, {}};

}  // namespace
}  // namespace mseloss::python

PyMODINIT_FUNC MSELOSS_TORCH_STEP_INIT() {
  HANDLE_TH_ERRORS
  using namespace mseloss::python;
  core = static_cast<const CoreApi*>(PyCapsule_Import(kCoreApiCapsule, 0));
  if (core == nullptr) return nullptr;
  register_transforms();
  return PyModule_Create(&definition);
  END_HANDLE_TH_ERRORS
}
