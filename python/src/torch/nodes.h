// Nodes of PyTorch's autograd graph.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>
#include <type_traits>

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

}  // namespace mseloss::python
