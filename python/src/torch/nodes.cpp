#include "torch/nodes.h"

#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/python_variable.h>

#include <optional>
#include <string>

namespace mseloss::python {

using torch::autograd::variable_list;

bool is_last_pass() {
  return !at::GradMode::is_enabled() && !torch::autograd::get_current_graph_task_keep_graph();
}

pybind11::object wrapped(const at::Tensor& tensor) {
  return pybind11::reinterpret_steal<pybind11::object>(THPVariable_Wrap(tensor));
}

variable_list gradients_in_python(const char* module, c10::function_ref<pybind11::tuple()> arguments) {
  const pybind11::gil_scoped_acquire held;
  try {
    const pybind11::object gradients = pybind11::module_::import(module).attr("gradients");
    const pybind11::tuple results = gradients(*arguments());
    variable_list tensors;
    for (const pybind11::handle result : results) {
      tensors.push_back(result.is_none() ? at::Tensor() : THPVariable_Unpack(result.ptr()));
    }
    return tensors;
  } catch (pybind11::error_already_set& error) {
    // As PyTorch's own exception, which crosses the autograd engine without the GIL.
    error.restore();
    python_error raised;
    raised.persist();
    throw raised;
  }
}

variable_list trace_backward(const torch::autograd::Node& node, const variable_list& grad_outputs,
                             torch::dynamo::autograd::SwapSavedVariables* saved,
                             std::initializer_list<torch::autograd::SavedVariable*> operands,
                             const std::vector<int64_t>& options,
                             variable_list (*backward)(const variable_list&,
                                                       const std::vector<c10::IValue>&)) {
  using namespace torch::dynamo::autograd;
  PackedArgs arguments;
  std::vector<at::TypePtr> schema;
  for (auto* operand : operands) {
    saved->before(*operand);
    arguments.pack(operand->unpack());
    schema.push_back(at::TensorType::get());
  }
  for (const int64_t option : options) {
    arguments.pack(option);
    schema.push_back(at::IntType::get());
  }
  const auto metadata = IValuePacker<std::vector<std::optional<torch::autograd::InputMetadata>>>::pack(
      get_input_metadata(node.next_edges()));
  const auto& compiler = getPyCompilerInterface();
  const std::string bound = compiler->bind_function(saved->get_py_compiler(), node.name(), backward, schema,
                                                    /*is_custom_function=*/true);
  variable_list results = compiler->call_function(saved->get_py_compiler(), "apply_functional", bound,
                                                  grad_outputs, std::move(arguments).vec(), metadata);
  for (auto* operand : operands) saved->after(*operand);
  return results;
}

}  // namespace mseloss::python
