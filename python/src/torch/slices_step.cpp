// What EagerSlices of mseloss/torch/slices/step.py does in Python.
#include "torch/slices_step.h"

#include <ATen/SavedTensorHooks.h>
#include <torch/csrc/autograd/python_variable.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <tuple>

#include "module/gil.h"
#include "torch/calls.h"
#include "torch/nodes.h"
#include "torch/plain_tensors.h"
#include "torch/transforms.h"

namespace mseloss::python {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// The gradient with respect to x in Python, for all other cases.
variable_list gradients_from_python(const at::Tensor& grad_output, const at::Tensor& x, const at::Tensor& y,
                                    const Slices& slices, Reduction reduction) {
  const at::Tensor upstream =
      slices.keepdim ? grad_output : with_summed_dimensions(grad_output, slices.summed);
  variable_list gradients = gradients_in_python("mseloss.torch.slices.derivatives", [&] {
    pybind11::list dim;
    for (const int64_t d : dimensions_of(slices.summed)) dim.append(d);
    return pybind11::make_tuple(wrapped(upstream), wrapped(x), wrapped(y), wrapped(slices.weight),
                                reduction_name(reduction), pybind11::tuple(dim),
                                pybind11::make_tuple(true, false, false));
  });
  gradients.resize(2);
  return gradients;
}

class MseSlicesBackward final : public torch::autograd::Node {
 public:
  void save(const at::Tensor& x, const at::Tensor& y, Slices slices, Reduction reduction,
            at::Tensor gradient) {
    input_ = SavedVariable(x, /*is_output=*/false);
    target_ = SavedVariable(y, /*is_output=*/false);
    weighted_ = slices.weight.defined();
    weight_ = SavedVariable(weighted_ ? slices.weight : y, /*is_output=*/false);
    slices.weight.reset();
    slices_ = std::move(slices);
    reduction_ = reduction;
    gradient_ = std::move(gradient);
  }

  variable_list apply(variable_list&& grad_outputs) override {
    const std::lock_guard lock(mutex_);
    const at::Tensor& grad_output = grad_outputs[0];
    if (!grad_output.defined() || !task_should_compute_output(0)) return {at::Tensor(), at::Tensor()};
    const bool readable = !at::GradMode::is_enabled() && is_plain(grad_output) && !is_intercepted();
    const at::Tensor x = input_.unpack(), y = target_.unpack();
    Slices slices = slices_;
    if (weighted_) slices.weight = weight_.unpack();
    at::Tensor gradient = std::move(gradient_);
    if (gradient.defined() && readable && is_last_pass() && scale(gradient, grad_output, slices, weighted_)) {
      return {gradient, at::Tensor()};
    }
    if (readable && is_plain(x) && is_plain(y) && grad_output.scalar_type() == x.scalar_type()) {
      return {std::get<1>(loss_and_gradient_of(x, y, slices, reduction_, grad_output)), at::Tensor()};
    }
    return gradients_from_python(grad_output, x, y, slices, reduction_);
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    input_.reset_data();
    target_.reset_data();
    weight_.reset_data();
    gradient_.reset();
  }

  std::string name() const override { return "MseSlicesBackward"; }

  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs& args) const override {
    args.collect(input_, false);
    args.collect(target_, false);
    args.collect(weight_, false);
    for (const int64_t option : options()) args.collect(option);
  }
  variable_list apply_with_saved(const variable_list& grad_outputs,
                                 torch::dynamo::autograd::SwapSavedVariables& saved) override {
    const auto backward = [](const variable_list& gradients, const std::vector<c10::IValue>& packed) {
      if (!gradients[0].defined()) return variable_list(2);
      const auto option = [&](size_t i) { return packed[3 + i].toInt(); };
      const Slices slices{option(1) != 0 ? packed[2].toTensor() : at::Tensor(),
                          static_cast<uint32_t>(option(2)), option(3) != 0};
      return gradients_from_python(gradients[0], packed[0].toTensor(), packed[1].toTensor(), slices,
                                   static_cast<Reduction>(option(0)));
    };
    return trace_backward(*this, grad_outputs, &saved, {&input_, &target_, &weight_}, options(), backward);
  }

 private:
  std::vector<int64_t> options() const {
    return {static_cast<int64_t>(reduction_), weighted_, static_cast<int64_t>(slices_.summed),
            slices_.keepdim};
  }

  SavedVariable input_, target_, weight_;  // the last is the target again if there is no weight
  bool weighted_ = false;
  Slices slices_;  // without the weight
  Reduction reduction_ = Reduction::kMean;
  at::Tensor gradient_;  // as in MseLossBackward
};

// The dimensions in `dim` as bits; nothing unless they are an int, or a tuple or list of different ones.
std::optional<uint32_t> dimensions(PyObject* dim, int64_t rank) {
  if (dim == Py_None) return (uint32_t{1} << rank) - 1;
  uint32_t found = 0;
  const auto add = [&](PyObject* number) {
    int overflow = 0;
    if (!PyLong_CheckExact(number)) return false;
    const int64_t value = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow != 0 || value < -rank || value >= rank) return false;
    const uint32_t bit = uint32_t{1} << (value < 0 ? value + rank : value);
    const bool is_new = (found & bit) == 0;
    found |= bit;
    return is_new;
  };
  bool valid = true;
  if (PyTuple_CheckExact(dim) || PyList_CheckExact(dim)) {
    for (Py_ssize_t i = 0; valid && i < PySequence_Fast_GET_SIZE(dim); ++i) {
      valid = add(PySequence_Fast_GET_ITEM(dim, i));
    }
  } else {
    valid = add(dim);
  }
  return valid && found != 0 ? std::optional(found) : std::nullopt;
}

}  // namespace

at::Tensor sliced_loss(const at::Tensor& x, const at::Tensor& y, Reduction reduction, PyObject* weight,
                       PyObject* dim, PyObject* keepdim) {
  const bool intercepted = is_intercepted();
  if (reduction == Reduction::kNone || !PyBool_Check(keepdim) || x.dim() == 0 || x.dim() > kMaxRank)
    return {};
  if (!intercepted && (!is_plain(x) || !is_plain(y) || x.sizes() != y.sizes())) return {};
  Slices slices;
  slices.keepdim = keepdim == Py_True;
  if (weight != Py_None) {
    if (!THPVariable_CheckExact(weight)) return {};
    slices.weight = THPVariable_Unpack(weight);
  }
  const std::optional<uint32_t> summed = dimensions(dim, x.dim());
  if (!summed) return {};
  slices.summed = *summed;
  if (intercepted) return transformed_loss(x, y, slices, reduction);
  const bool recorded = at::GradMode::is_enabled() && x.requires_grad();
  if (x.scalar_type() != y.scalar_type() || y.requires_grad() ||
      at::SavedTensorDefaultHooks::get_hooks(/*ignore_is_tracing=*/true)) {
    return {};
  }
  if (const at::Tensor& w = slices.weight; w.defined()) {
    if (w.requires_grad() || !is_plain_weight(w, x.scalar_type()) || !broadcasts_to(w.sizes(), x.sizes()))
      return {};
  }
  at::Tensor value, gradient;
  call_core<pybind11::gil_scoped_release>(x.numel(), [&] {
    if (recorded) {
      std::tie(value, gradient) = loss_and_gradient_of(x, y, slices, reduction, {});
    } else {
      value = loss_of(x, y, slices, reduction);
    }
  });
  if (recorded) {
    const auto node = make_node<MseSlicesBackward>(x, y);
    node->save(x, y, std::move(slices), reduction, std::move(gradient));
    torch::autograd::set_history(value, node);
  }
  return value;
}

}  // namespace mseloss::python
