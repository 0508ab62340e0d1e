// The eager training step of mseloss.torch in C++: EagerStep of mseloss/torch/step.py for two plain CPU
// tensors of the same shape, without the interpreter. Built only if PyTorch is installed at build time, for
// that version, which the module's name contains. Without this module EagerStep does the same, about 20
// microseconds slower.
#include <ATen/ATen.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/SavedTensorHooks.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>

#include <mutex>
#include <tuple>

#include "module/gil.h"
#include "torch/calls.h"
#include "torch/core_api.h"
#include "torch/nodes.h"
#include "torch/plain_tensors.h"
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
  constexpr const char* kNames[] = {"none", "mean", "sum"};
  const pybind11::gil_scoped_acquire held;
  try {
    const auto step = pybind11::module_::import("mseloss.torch.step");
    const auto wrap = [](const at::Tensor& tensor) {
      return pybind11::reinterpret_steal<pybind11::object>(THPVariable_Wrap(tensor));
    };
    const pybind11::tuple results =
        step.attr("gradients")(wrap(grad_output), wrap(x), wrap(y), kNames[static_cast<int>(reduction)],
                               pybind11::make_tuple(of_input, of_target), wrap(gradient));
    const auto unwrap = [](pybind11::handle object) {
      return object.is_none() ? at::Tensor() : THPVariable_Unpack(object.ptr());
    };
    return {unwrap(results[0]), unwrap(results[1])};
  } catch (pybind11::error_already_set& error) {
    // As PyTorch's own exception, which crosses the autograd engine without the GIL.
    error.restore();
    python_error raised;
    raised.persist();
    throw raised;
  }
}

// Multiplies in place. Returns false if grad_output cannot be read, or if the product would not be the exact
// result: a gradient in a half type has been rounded, possibly to zero.
bool scale(at::Tensor& gradient, const at::Tensor& grad_output) {
  if (!is_plain(grad_output) || is_intercepted()) return false;
  if (value_of(grad_output) == 1) return true;
  if (gradient.scalar_type() != grad_output.scalar_type() || gradient.element_size() < 4) return false;
  gradient.mul_(grad_output);
  return true;
}

// The node of a loss. Written out, because a torch::autograd::Function takes two microseconds more.
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
    // The stored gradient has no history, and a retained graph may need it again: return it only in the last
    // pass of first-order differentiation.
    const bool last = first_order && !torch::autograd::get_current_graph_task_keep_graph();
    at::Tensor gradient = std::move(gradient_), target_gradient;
    if (gradient.defined() && !(last && of_input && scale(gradient, grad_output))) gradient.reset();
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

  // Compiled autograd keys its cache by the first of these and traces traced() in the second.
  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& args) const override {
    args.collect(input_, false);
    args.collect(target_, false);
    args.collect(static_cast<int64_t>(reduction_));
  }
  variable_list apply_with_saved(const variable_list& grad_outputs,
                                 torch::dynamo::autograd::SwapSavedVariables& saved) override {
    using namespace torch::dynamo::autograd;
    saved.before(input_);
    saved.before(target_);
    PackedArgs arguments;
    arguments.pack(input_.unpack());
    arguments.pack(target_.unpack());
    arguments.pack(static_cast<int64_t>(reduction_));
    arguments.pack(task_should_compute_output(0));
    arguments.pack(task_should_compute_output(1));
    const std::vector<at::TypePtr> schema = {at::TensorType::get(), at::TensorType::get(), at::IntType::get(),
                                             at::BoolType::get(), at::BoolType::get()};
    const auto metadata = IValuePacker<std::vector<std::optional<torch::autograd::InputMetadata>>>::pack(
        get_input_metadata(next_edges()));
    const auto& compiler = getPyCompilerInterface();
    const std::string bound = compiler->bind_function(saved.get_py_compiler(), name(), traced, schema,
                                                      /*is_custom_function=*/true);
    variable_list results = compiler->call_function(saved.get_py_compiler(), "apply_functional", bound,
                                                    grad_outputs, std::move(arguments).vec(), metadata);
    saved.after(input_);
    saved.after(target_);
    return results;
  }

 private:
  // The traced tensors are not plain, so that only operators are called.
  static variable_list traced(const variable_list& grad_outputs, const std::vector<c10::IValue>& packed) {
    torch::dynamo::autograd::PackedArgs arguments(packed);
    const auto x = arguments.unpack<at::Tensor>(), y = arguments.unpack<at::Tensor>();
    const auto reduction = static_cast<Reduction>(arguments.unpack<int64_t>());
    const bool of_input = arguments.unpack<bool>(), of_target = arguments.unpack<bool>();
    if (!grad_outputs[0].defined()) return {at::Tensor(), at::Tensor()};
    return gradients_from_python(grad_outputs[0], x, y, reduction, of_input, of_target, {});
  }

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

// (input, target, reduction) -> the loss, or None if the call is left to Python: for other tensors than two
// plain ones of the same shape, for another reduction, or if operators are intercepted.
PyObject* mse_loss(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  if (count != 3 || !THPVariable_CheckExact(arguments[0]) || !THPVariable_CheckExact(arguments[1]) ||
      !PyUnicode_Check(arguments[2])) {
    Py_RETURN_NONE;
  }
  Reduction reduction;
  if (PyUnicode_CompareWithASCIIString(arguments[2], "mean") == 0) {
    reduction = Reduction::kMean;
  } else if (PyUnicode_CompareWithASCIIString(arguments[2], "sum") == 0) {
    reduction = Reduction::kSum;
  } else if (PyUnicode_CompareWithASCIIString(arguments[2], "none") == 0) {
    reduction = Reduction::kNone;
  } else {
    Py_RETURN_NONE;
  }
  const at::Tensor &x = THPVariable_Unpack(arguments[0]), &y = THPVariable_Unpack(arguments[1]);
  if (at::impl::torch_function_mode_enabled()) Py_RETURN_NONE;
  if (!is_plain(x) || !is_plain(y) || x.sizes() != y.sizes() || is_intercepted()) {
    const at::Tensor value = transformed_loss(x, y, reduction);
    if (!value.defined()) Py_RETURN_NONE;
    return THPVariable_Wrap(value);
  }
  if (at::GradMode::is_enabled() && (x.requires_grad() || y.requires_grad())) {
    return THPVariable_Wrap(differentiable_loss(x, y, reduction));
  }
  const at::Tensor value =
      call_core<pybind11::gil_scoped_release>(x.numel(), [&] { return loss_of(x, y, reduction); });
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
