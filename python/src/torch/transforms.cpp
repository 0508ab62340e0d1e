#include "torch/transforms.h"

#include <ATen/autocast_mode.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/functorch/DynamicLayer.h>
#include <ATen/functorch/PlumbingHelper.h>
#include <ATen/functorch/TensorWrapper.h>
#include <pybind11/pybind11.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "torch/calls.h"
#include "torch/plain_tensors.h"
#include "torch/transform_operators.h"

namespace mseloss::python {
namespace {

namespace functorch = at::functorch;
using at::Tensor;

Tensor no_token() { return at::zeros({}, at::kLong); }

// The kernels, below all levels.

// The reduced dimensions as slices_step takes them, one bit each.
int64_t reduced_dimensions(const Tensor& input, int64_t kept) {
  return (int64_t{1} << input.dim()) - (int64_t{1} << kept);
}

std::tuple<Tensor, Tensor> step_on_cpu(const Tensor& input, const Tensor& target, bool mean, int64_t kept,
                                       bool with_gradient) {
  // Always true unless the operator is called by its name.
  TORCH_CHECK(is_plain(input) && is_plain(target) && input.sizes() == target.sizes() &&
                  input.scalar_type() == target.scalar_type(),
              "expected two tensors of one shape and floating-point dtype, with at most 8 dimensions");
  if (kept == input.dim()) return {loss_of(input, target, Reduction::kNone), no_token()};
  if (!with_gradient) return {sums_of(input, target, mean, kept), no_token()};
  if (kept == 0) {
    static const auto found =
        find_operator<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, bool, bool, bool)>(
            "mseloss::mse_loss_step");
    return found.call(input, target, mean, false, false);
  }
  static const auto found = find_operator<std::tuple<Tensor, Tensor>(
      const Tensor&, const Tensor&, const Tensor&, bool, bool, int64_t, bool, bool)>("mseloss::slices_step");
  auto [losses, token] =
      found.call(input, target, target, false, mean, reduced_dimensions(input, kept), false, false);
  return {losses.view(input.sizes().slice(0, static_cast<size_t>(kept))), token};
}

Tensor step_backward_on_cpu(const Tensor& grad_output, const Tensor& input, const Tensor& target,
                            const Tensor& token, bool mean, int64_t kept) {
  // Levels of vmap around the backward pass may have added dimensions to those of the loss.
  if (!is_plain(grad_output) || !is_plain(input) || !is_plain(target) ||
      grad_output.scalar_type() != input.scalar_type()) {
    return mse_loss_backward(grad_output, input, target, mean, kept);
  }
  if (kept == 0) {
    static const auto found =
        find_operator<Tensor(const Tensor&, const Tensor&, const Tensor&, c10::SymInt, const Tensor&, bool)>(
            "mseloss::mse_loss_step_backward");
    return found.call(grad_output, input, target, count_of(input, mean, kept), token, false);
  }
  if (kept == input.dim()) return gradient_of(grad_output, input, target, Reduction::kNone);
  static const auto found =
      find_operator<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, bool, bool, int64_t,
                           const Tensor&, bool)>("mseloss::slices_step_backward");
  return found.call(with_reduced_dimensions(grad_output, input), input, target, target, false, mean,
                    reduced_dimensions(input, kept), token, false);
}

// vmap

// A tensor at one level of vmap.
class Batched {
 public:
  Batched(const Tensor& tensor, int64_t level) {
    std::tie(physical_, dim_) = functorch::unwrapTensorAtLevel(tensor, level);
  }
  explicit operator bool() const { return dim_.has_value(); }
  int64_t size() const { return physical_.size(*dim_); }
  // With the batch dimension first, of this size.
  Tensor first(int64_t size) const {
    if (dim_) return *dim_ == 0 ? physical_ : physical_.movedim(*dim_, 0);
    std::vector<int64_t> shape = physical_.sizes().vec();
    shape.insert(shape.begin(), size);
    return physical_.expand(shape);
  }

 private:
  Tensor physical_;
  std::optional<int64_t> dim_;
};

std::tuple<Tensor, Tensor> step_of_batch(const Tensor& input, const Tensor& target, bool mean, int64_t kept,
                                         bool with_gradient) {
  const c10::impl::ExcludeDispatchKeyGuard excluded(c10::DispatchKey::FuncTorchBatched);
  const int64_t level = functorch::maybeCurrentDynamicLayer()->layerId();
  const Batched x(input, level), y(target, level);
  if (!x && !y) return transformed_step().call(input, target, mean, kept, with_gradient);
  const int64_t size = x ? x.size() : y.size();
  auto [loss, token] = transformed_step().call(x.first(size), y.first(size), mean, kept + 1, with_gradient);
  return {functorch::makeBatched(std::move(loss), 0, level), std::move(token)};
}

Tensor step_backward_of_batch(const Tensor& grad_output, const Tensor& input, const Tensor& target,
                              const Tensor& token, bool mean, int64_t kept) {
  const c10::impl::ExcludeDispatchKeyGuard excluded(c10::DispatchKey::FuncTorchBatched);
  const int64_t level = functorch::maybeCurrentDynamicLayer()->layerId();
  const Batched g(grad_output, level), x(input, level), y(target, level);
  if (!g && !x && !y) return transformed_step_backward().call(grad_output, input, target, token, mean, kept);
  const int64_t size = g ? g.size() : x ? x.size() : y.size();
  // A level around the backward pass alone, as in jacrev: the gradient that the token stands for lacks it.
  const Tensor own = x || y ? token : no_token();
  return functorch::makeBatched(
      transformed_step_backward().call(g.first(size), x.first(size), y.first(size), own, mean, kept + 1), 0,
      level);
}

// The tensor below all levels of grad and vmap. Sets *requires_grad if it does at one of them.
Tensor below_levels(Tensor tensor, bool* requires_grad) {
  for (;;) {
    *requires_grad = *requires_grad || tensor.requires_grad();
    if (const auto* wrapper = functorch::maybeGetTensorWrapper(tensor)) {
      tensor = Tensor(wrapper->value());
    } else if (const auto* batched = functorch::maybeGetBatchedImpl(tensor)) {
      tensor = Tensor(batched->value());
    } else {
      return tensor;
    }
  }
}

// Whether all levels are of grad or vmap, of which the kernels can process that many for tensors of `rank`.
bool are_processed(const std::vector<functorch::DynamicLayer>& levels, int64_t rank) {
  for (const auto& level : levels) {
    if (level.key() == functorch::TransformType::Vmap) {
      ++rank;
    } else if (level.key() != functorch::TransformType::Grad) {
      return false;
    }
  }
  return rank <= kMaxRank;
}

}  // namespace

void register_transforms() {
  if (c10::Dispatcher::singleton().findSchema({"mseloss::transformed_step", ""})) return;
  const auto library = [](torch::Library::Kind kind, std::optional<c10::DispatchKey> key) {
    // Not deleted: the operators remain registered.
    return new torch::Library(kind, "mseloss", key, __FILE__, __LINE__);
  };
  library(torch::Library::FRAGMENT, std::nullopt)
      ->def(
          "transformed_step(Tensor input, Tensor target, bool mean, int kept, bool with_gradient)"
          " -> (Tensor loss, Tensor token)")
      .def(
          "transformed_step_backward(Tensor grad_output, Tensor input, Tensor target, Tensor token, bool "
          "mean,"
          " int kept) -> Tensor");
  library(torch::Library::IMPL, c10::DispatchKey::CPU)
      ->impl("transformed_step", step_on_cpu)
      .impl("transformed_step_backward", step_backward_on_cpu);
  library(torch::Library::IMPL, c10::DispatchKey::FuncTorchBatched)
      ->impl("transformed_step", step_of_batch)
      .impl("transformed_step_backward", step_backward_of_batch);
  library(torch::Library::IMPL, c10::DispatchKey::Autograd)
      ->impl("transformed_step", step_with_graph)
      .impl("transformed_step_backward", step_backward_with_graph);
}

Tensor transformed_loss(const Tensor& input, const Tensor& target, Reduction reduction) {
  constexpr c10::DispatchKeySet of_levels(
      {c10::DispatchKey::FuncTorchDynamicLayerFrontMode, c10::DispatchKey::FuncTorchDynamicLayerBackMode});
  const auto& levels = functorch::getDynamicLayerStack();
  if (levels.empty() || is_intercepted(of_levels)) return {};
  bool of_input = false, of_target = false;
  // First: the shape of others may be symbolic.
  if (!is_plain(below_levels(input, &of_input)) || !is_plain(below_levels(target, &of_target))) return {};
  if (input.sizes() != target.sizes() || input.scalar_type() != target.scalar_type() ||
      at::autocast::is_autocast_enabled(at::kCPU) || !are_processed(levels, input.dim())) {
    return {};
  }
  // The sweep computes the gradient of its first operand; the loss is the same in either order.
  const bool swapped = of_target && !of_input;
  const int64_t kept = reduction == Reduction::kNone ? input.dim() : 0;
  const pybind11::gil_scoped_release released;
  return std::get<0>(transformed_step().call(swapped ? target : input, swapped ? input : target,
                                             reduction == Reduction::kMean, kept,
                                             (of_input || of_target) && at::GradMode::is_enabled()));
}

}  // namespace mseloss::python
