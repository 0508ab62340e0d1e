// Nodes of PyTorch's autograd graph.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>
#include <torch/csrc/utils/pybind.h>

#include <initializer_list>
#include <memory>
#include <type_traits>
#include <vector>

#include "mseloss/mseloss.h"

namespace mseloss::python {

// A node of type N for an operator with these operands, by the pointer that this release of PyTorch uses.
template <class N, class... Operands>
auto make_node(const Operands&... operands) {
  using Pointer = std::decay_t<decltype(std::declval<const at::Tensor&>().grad_fn())>;
  const auto connect = [&](auto node) {
    node->set_next_edges(torch::autograd::collect_next_edges(operands...));
    return node;
  };
  if constexpr (std::is_same_v<Pointer, std::shared_ptr<torch::autograd::Node>>) {
    // PyTorch's deleter: a long chain of nodes is freed without recursion. Later releases lack the name, and
    // intrusive pointers do the same.
    return connect(std::shared_ptr<N>(new N, [](N* node) { deleteNode(node); }));
  } else {
    return connect(c10::make_intrusive<N>());
  }
}

inline const char* reduction_name(Reduction reduction) {
  constexpr const char* kNames[] = {"none", "mean", "sum"};
  return kNames[static_cast<int>(reduction)];
}

// Whether the backward pass that runs may take away a gradient that the forward pass has stored: that has no
// history for higher derivatives, and a retained graph may need it again.
bool is_last_pass();

// A tensor as Python's object, None if it is undefined. Needs the GIL.
pybind11::object wrapped(const at::Tensor& tensor);

// The results of `gradients` of a module of the package, each a tensor or None. `arguments` is called with
// the GIL and returns a tuple.
torch::autograd::variable_list gradients_in_python(const char* module,
                                                   c10::function_ref<pybind11::tuple()> arguments);

// Has compiled autograd trace `backward`, a function of the upstream gradients and of the node's saved
// operands followed by its `options`.
torch::autograd::variable_list trace_backward(
    const torch::autograd::Node& node, const torch::autograd::variable_list& grad_outputs,
    torch::dynamo::autograd::SwapSavedVariables* saved,
    std::initializer_list<torch::autograd::SavedVariable*> operands, const std::vector<int64_t>& options,
    torch::autograd::variable_list (*backward)(const torch::autograd::variable_list&,
                                               const std::vector<c10::IValue>&));

}  // namespace mseloss::python
