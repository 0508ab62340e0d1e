#include "torch/transforms.h"

#include <ATen/SavedTensorHooks.h>
#include <ATen/autocast_mode.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/functorch/DynamicLayer.h>
#include <ATen/functorch/PlumbingHelper.h>
#include <ATen/functorch/TensorWrapper.h>
#include <pybind11/pybind11.h>
#include <torch/library.h>

#include <initializer_list>
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

bool are_accepted(const Tensor& input, const Tensor& target, const Weight& weight) {
  return is_plain(input) && is_plain(target) && input.sizes() == target.sizes() &&
         input.scalar_type() == target.scalar_type() &&
         (!weight ||
          (is_plain_weight(*weight, input.scalar_type()) && broadcasts_to(weight->sizes(), input.sizes())));
}

std::tuple<Tensor, Tensor> step_on_cpu(const Tensor& input, const Tensor& target, const Weight& weight,
                                       bool mean, int64_t summed, bool with_gradient) {
  // transformed_loss() has checked this; callers of torch.ops.mseloss.transformed_step have not.
  TORCH_CHECK(are_accepted(input, target, weight) && summed >> input.dim() == 0 && (summed != 0 || !weight),
              "expected tensors of one shape and floating-point dtype, with at most 8 dimensions");
  if (summed == 0) return {loss_of(input, target, Reduction::kNone), no_token()};
  if (!with_gradient) {
    const Slices slices{weight.value_or(Tensor()), static_cast<uint32_t>(summed)};
    return {loss_of(input, target, slices, mean ? Reduction::kMean : Reduction::kSum), no_token()};
  }
  const at::DimVector dimensions = dimensions_of(summed);
  if (!weight && dimensions.size() == static_cast<size_t>(input.dim())) {
    static const auto found =
        find_operator<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, bool, bool, bool)>(
            "mseloss::mse_loss_step");
    return found.call(input, target, mean, false, false);
  }
  const Tensor& w = weight ? *weight : target;  // any tensor if there is none
  static const auto found = find_operator<std::tuple<Tensor, Tensor>(
      const Tensor&, const Tensor&, const Tensor&, bool, bool, int64_t, bool, bool)>("mseloss::slices_step");
  auto [losses, token] =
      found.call(input, target, w, weight.has_value(), mean, summed, /*wide=*/false, false);
  return {losses.squeeze(dimensions), token};
}

Tensor step_backward_on_cpu(const Tensor& grad_output, const Tensor& input, const Tensor& target,
                            const Weight& weight, const Tensor& token, bool mean, int64_t summed) {
  // Levels of vmap around the backward pass may have added dimensions to those of the loss.
  if (!is_plain(grad_output) || !is_plain(input) || !is_plain(target) ||
      grad_output.scalar_type() != input.scalar_type()) {
    return general_step_backward(grad_output, input, target, weight, mean, summed);
  }
  const at::DimVector dimensions = dimensions_of(summed);
  if (!weight && dimensions.size() == static_cast<size_t>(input.dim())) {
    static const auto found =
        find_operator<Tensor(const Tensor&, const Tensor&, const Tensor&, c10::SymInt, const Tensor&, bool)>(
            "mseloss::mse_loss_step_backward");
    return found.call(grad_output, input, target, mean ? input.numel() : 0, token, false);
  }
  if (dimensions.empty()) return gradient_of(grad_output, input, target, Reduction::kNone);
  static const auto found =
      find_operator<Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, bool, bool, int64_t,
                           const Tensor&, bool)>("mseloss::slices_step_backward");
  return found.call(with_summed_dimensions(grad_output, summed), input, target, weight ? *weight : target,
                    weight.has_value(), mean, summed, token, false);
}

// vmap

// A tensor at one level of vmap.
class Batched {
 public:
  Batched(const Tensor& tensor, int64_t level) {
    std::tie(physical_, dim_) = functorch::unwrapTensorAtLevel(tensor, level);
  }
  Batched(const Weight& weight, int64_t level) {
    if (weight) *this = Batched(*weight, level);
  }
  explicit operator bool() const { return dim_.has_value(); }
  // With the batch dimension first, of this size.
  Tensor first(int64_t size) const {
    if (dim_) return *dim_ == 0 ? physical_ : physical_.movedim(*dim_, 0);
    std::vector<int64_t> shape = physical_.sizes().vec();
    shape.insert(shape.begin(), size);
    return physical_.expand(shape);
  }
  // As a weight of tensors that have `rank` dimensions and the batch dimension.
  Weight weight(int64_t rank) const {
    if (!physical_.defined()) return std::nullopt;
    if (!dim_) return physical_;  // broadcasts
    Tensor tensor = first(0);
    while (tensor.dim() <= rank) tensor = tensor.unsqueeze(1);
    return tensor;
  }
  // The size of the batch, by the first of these that has one.
  static int64_t size(std::initializer_list<const Batched*> all) {
    for (const Batched* one : all) {
      if (one->dim_) return one->physical_.size(*one->dim_);
    }
    return 0;
  }

 private:
  Tensor physical_;
  std::optional<int64_t> dim_;
};

std::tuple<Tensor, Tensor> step_of_batch(const Tensor& input, const Tensor& target, const Weight& weight,
                                         bool mean, int64_t summed, bool with_gradient) {
  const c10::impl::ExcludeDispatchKeyGuard excluded(c10::DispatchKey::FuncTorchBatched);
  const int64_t level = functorch::maybeCurrentDynamicLayer()->layerId();
  const Batched x(input, level), y(target, level), w(weight, level);
  if (!x && !y && !w) return transformed_step().call(input, target, weight, mean, summed, with_gradient);
  const int64_t size = Batched::size({&x, &y, &w});
  auto [loss, token] = transformed_step().call(x.first(size), y.first(size), w.weight(input.dim()), mean,
                                               summed << 1, with_gradient);
  return {functorch::makeBatched(std::move(loss), 0, level), std::move(token)};
}

Tensor step_backward_of_batch(const Tensor& grad_output, const Tensor& input, const Tensor& target,
                              const Weight& weight, const Tensor& token, bool mean, int64_t summed) {
  const c10::impl::ExcludeDispatchKeyGuard excluded(c10::DispatchKey::FuncTorchBatched);
  const int64_t level = functorch::maybeCurrentDynamicLayer()->layerId();
  const Batched g(grad_output, level), x(input, level), y(target, level), w(weight, level);
  if (!g && !x && !y && !w) {
    return transformed_step_backward().call(grad_output, input, target, weight, token, mean, summed);
  }
  const int64_t size = Batched::size({&g, &x, &y, &w});
  // A level around the backward pass alone, as in jacrev: the gradient that the token stands for lacks it.
  const Tensor own = x || y || w ? token : no_token();
  Tensor gradient = transformed_step_backward().call(g.first(size), x.first(size), y.first(size),
                                                     w.weight(input.dim()), own, mean, summed << 1);
  return functorch::makeBatched(std::move(gradient), 0, level);
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
          "transformed_step(Tensor input, Tensor target, Tensor? weight, bool mean, int summed,"
          " bool with_gradient) -> (Tensor loss, Tensor token)")
      .def(
          "transformed_step_backward(Tensor grad_output, Tensor input, Tensor target, Tensor? weight,"
          " Tensor token, bool mean, int summed) -> Tensor");
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

Tensor transformed_loss(const Tensor& input, const Tensor& target, const Slices& slices,
                        Reduction reduction) {
  constexpr c10::DispatchKeySet of_levels(
      {c10::DispatchKey::FuncTorchDynamicLayerFrontMode, c10::DispatchKey::FuncTorchDynamicLayerBackMode});
  const auto& levels = functorch::getDynamicLayerStack();
  if (levels.empty() || is_intercepted(of_levels) || at::autocast::is_autocast_enabled(at::kCPU) ||
      !are_processed(levels, input.dim())) {
    return {};
  }
  bool of_input = false, of_target = false, of_weight = false;
  if (!is_plain(below_levels(input, &of_input)) || !is_plain(below_levels(target, &of_target)) ||
      input.sizes() != target.sizes() || input.scalar_type() != target.scalar_type()) {
    return {};
  }
  Weight weight;
  if (slices.weight.defined()) {
    weight = slices.weight;
    if (!is_plain_weight(below_levels(*weight, &of_weight), input.scalar_type()) || of_weight ||
        !broadcasts_to(weight->sizes(), input.sizes())) {
      return {};
    }
  }
  // The sweep computes the gradient of its first operand; the loss is the same in either order.
  const bool swapped = of_target && !of_input;
  // As in the eager step, hooks for saved tensors decide themselves what is kept.
  const bool keeps = (of_input || of_target) && at::GradMode::is_enabled() &&
                     !at::SavedTensorDefaultHooks::get_hooks(/*ignore_is_tracing=*/true);
  const pybind11::gil_scoped_release released;
  Tensor loss =
      std::get<0>(transformed_step().call(swapped ? target : input, swapped ? input : target, weight,
                                          reduction == Reduction::kMean, slices.summed, keeps));
  return slices.keepdim ? with_summed_dimensions(std::move(loss), slices.summed) : loss;
}

}  // namespace mseloss::python
