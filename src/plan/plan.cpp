#include "plan/plan.h"

#include <algorithm>
#include <limits>

#include "numerics/scale.h"
#include "plan/arguments.h"

namespace mseloss {

Layout classify(const Plan& plan) {
  constexpr int64_t kMinRowBytes = 64;  // a cache line
  if (plan.numel == 0) return Layout::kEmpty;
  const int inner = std::max(plan.rank - 1, 0);
  bool unit = true, converted = false;
  for (int o = 0; o < kOperands; ++o) {
    if (!has(plan, o)) continue;
    const int64_t stride = plan.rank == 0 ? 0 : plan.stride[o][inner];
    unit = unit && (stride == 1 || (stride == 0 && (o < kOut || plan.rank == 0)));
    converted = converted || is_converted(plan, o);
  }
  if (!unit || converted) return Layout::kGeneral;
  if (plan.rank <= 1) return Layout::kDense;
  return plan.extent[inner] * size_of(plan.dtype) >= kMinRowBytes ? Layout::kRows : Layout::kGeneral;
}

namespace {

// The view's strides over the broadcast shape; 0 in dimensions in which the view is broadcast.
void align_strides(const View& view, const BroadcastShape& shape, int64_t* strides) {
  const int rank = static_cast<int>(view.shape.size()), skip = shape.rank - rank;
  int64_t dense = 1;
  std::fill_n(strides, skip, 0);
  for (int i = rank; i-- > 0;) {
    const int64_t stride = view.strides.empty() ? dense : view.strides[i];
    strides[skip + i] = view.shape[i] == 1 ? 0 : stride;
    dense *= view.shape[i];
  }
}

int64_t numel_of(const View& view) {
  int64_t count = 1;
  for (const int64_t extent : view.shape) count *= extent;
  return count;
}

// A view as one dimension.
struct FlatView {
  int64_t count;
  int stride;  // 1 if the view is dense and row-major, 0 if all its elements are one, -1 otherwise
};

// The stride is -1 unless each extent of `view`, aligned at the last dimension, is 1 or that of `shape`.
FlatView flatten(const View& view, std::span<const int64_t> shape) {
  constexpr int64_t kMaxCount = int64_t{1} << 56;  // elements: no count or byte size below can overflow
  constexpr FlatView kNone{0, -1};
  const size_t rank = view.shape.size(), skip = shape.size() - rank;
  if (rank > shape.size() || (!view.strides.empty() && view.strides.size() != rank)) return kNone;
  int64_t count = 1;
  bool dense = true, broadcast = true;
  for (size_t i = rank; i-- > 0;) {
    const int64_t extent = view.shape[i];
    if (extent == 1) continue;
    if (extent <= 0 || extent != shape[skip + i]) return kNone;
    const int64_t stride = view.strides.empty() ? count : view.strides[i];
    dense = dense && stride == count;
    broadcast = broadcast && stride == 0;
    if (__builtin_mul_overflow(count, extent, &count) || count > kMaxCount) return kNone;
  }
  return {count, broadcast ? 0 : dense ? 1 : -1};
}

// Whether two views have the same shape and strides. Not std::ranges::equal: for a few extents its call of
// memcmp costs more than the comparison.
bool same_layout(const View& a, const View& b) {
  const size_t rank = a.shape.size(), strides = a.strides.size();
  if (rank != b.shape.size() || strides != b.strides.size() || (strides != 0 && strides != rank))
    return false;
  for (size_t i = 0; i < rank; ++i) {
    if (a.shape[i] != b.shape[i] || (strides != 0 && a.strides[i] != b.strides[i])) return false;
  }
  return true;
}

void add_operand(const Argument& argument, Plan* plan) {
  plan->operands |= 1 << argument.operand;
  plan->dtypes[argument.operand] = argument.view->dtype;
}

// The fast path: if every operand is dense, or one broadcast element, the plan has one dimension at most.
// Sets the layout too. Returns false if the operands need the general path, which also finds the errors.
bool set_dense_shape(Arguments inputs, Arguments outs, Plan* plan) {
  const View& reference = *(outs.empty() ? inputs : outs)[0].view;
  if (reference.shape.size() > kMaxRank) return false;
  const FlatView whole = flatten(reference, reference.shape);
  if (whole.stride < 0) return false;
  for (auto& stride : plan->stride) stride[0] = 0;
  bool full = false;  // an input has the reference's shape; otherwise the broadcast shape may be smaller
  bool converted = false;
  const auto set_stride = [&](const Argument& argument, bool is_output) {
    const View& view = *argument.view;
    add_operand(argument, plan);
    converted = converted || is_converted(*plan, argument.operand);
    FlatView flat = whole;
    bool same_shape = true;
    if (&view != &reference && !same_layout(view, reference)) {
      flat = flatten(view, reference.shape);
      if (flat.stride == 1 && flat.count != whole.count) return false;
      same_shape = std::ranges::equal(view.shape, reference.shape);
    }
    plan->stride[argument.operand][0] = flat.stride;
    if (is_output) return same_shape && flat.stride == (whole.count > 1);
    full = full || same_shape;
    return flat.stride >= 0;
  };
  for (const Argument& out : outs) {
    if (!set_stride(out, true)) return false;
  }
  for (const Argument& input : inputs) {
    if (!set_stride(input, false)) return false;
  }
  if (!full) return false;
  plan->rank = whole.count == 1 ? 0 : 1;
  plan->numel = whole.count;
  plan->extent[0] = whole.count;
  plan->layout = converted ? Layout::kGeneral : Layout::kDense;
  return true;
}

Status check_own_memory(const Plan& plan, const Argument& out) {
  ByteView view = byte_view(plan, out.operand, nullptr);
  int rank = 0;
  for (int d = 0; d < view.rank; ++d) {
    if (out.operand == kLossOut && plan.sliced && is_reduced(plan, d)) continue;
    view.extent[rank] = view.extent[d];
    view.stride[rank++] = view.stride[d];
  }
  view.rank = rank;
  return may_overlap_itself(view) ? self_overlap_error(out) : Status();
}

// The loss of a sliced plan: the broadcast shape with extents of 1 in the reduced dimensions.
Status check_slices(const Argument& loss, const BroadcastShape& shape) {
  const auto& extents = loss.view->shape;
  bool fits = static_cast<int>(extents.size()) == shape.rank;
  for (int i = 0; fits && i < shape.rank; ++i) fits = extents[i] == shape.extent[i] || extents[i] == 1;
  if (!fits) {
    return Status::error(
        Code::kShape,
        "%s: expected a 0-dimensional tensor, or the broadcast shape %s with extents of 1 for "
        "the reduced dimensions, for reduction mean or sum, got %s",
        loss.name, ShapeText(shape.extent, shape.rank).text, ShapeText(*loss.view).text);
  }
  return {};
}

// A stride of 0 stands for a reduced dimension from here on.
Status check_slice_strides(const Argument& loss) {
  const View& view = *loss.view;
  if (view.strides.empty() || numel_of(view) == 0) return {};
  for (size_t i = 0; i < view.shape.size(); ++i) {
    if (view.shape[i] > 1 && view.strides[i] == 0) return self_overlap_error(loss);
  }
  return {};
}

// Whether each extent of `view`, aligned at the last dimension, is 1 or that of `to`.
bool broadcasts_to(const View& view, const View& to) {
  const size_t rank = view.shape.size();
  if (rank > to.shape.size()) return false;
  for (size_t i = 0; i < rank; ++i) {
    if (view.shape[i] != 1 && view.shape[i] != to.shape[to.shape.size() - rank + i]) return false;
  }
  return true;
}

// The general path: any shapes and strides. `losses` is empty or has the loss of a sliced plan and, for
// loss_and_grad(), the grad_output that broadcasts to it.
Status set_general_shape(Arguments inputs, Arguments outs, Arguments losses, Plan* plan) {
  plan->operands = 0;
  for (const Arguments arguments : {inputs, outs, losses}) {
    for (const Argument& argument : arguments) add_operand(argument, plan);
  }
  for (const auto check : {check_rank, check_extents}) {
    for (const Arguments arguments : {inputs, outs, losses}) {
      for (const Argument& argument : arguments) {
        if (Status status = check(argument); !status.ok()) return status;
      }
    }
  }
  BroadcastShape shape;
  if (Status status = broadcast(inputs, &shape); !status.ok()) return status;
  for (const Argument& out : outs) {
    if (Status status = check_output_shape(out, shape); !status.ok()) return status;
  }
  if (!losses.empty()) {
    if (Status status = check_slices(losses[0], shape); !status.ok()) return status;
    plan->slices = numel_of(*losses[0].view);
  }
  if (losses.size() > 1 && !broadcasts_to(*losses[1].view, *losses[0].view)) {
    return Status::error(Code::kShape, "%s: expected a shape that broadcasts to %s, the shape of %s, got %s",
                         losses[1].name, ShapeText(*losses[0].view).text, losses[0].name,
                         ShapeText(*losses[1].view).text);
  }
  if (!losses.empty()) {
    if (Status status = check_slice_strides(losses[0]); !status.ok()) return status;
  }
  plan->rank = shape.rank;
  plan->numel = shape.count;
  std::copy_n(shape.extent, kMaxRank, plan->extent);
  for (auto& strides : plan->stride) std::fill_n(strides, kMaxRank, 0);
  if (plan->numel == 0) {
    plan->layout = Layout::kEmpty;
    if (losses.empty()) return {};
    // The loop nest over the loss alone: each of its elements gets the value of an empty sum or mean.
    std::copy_n(losses[0].view->shape.data(), shape.rank, plan->extent);
    align_strides(*losses[0].view, shape, plan->stride[kLossOut]);
    return plan->slices == 0 ? Status() : check_own_memory(*plan, losses[0]);
  }
  for (const Arguments arguments : {inputs, outs, losses}) {
    for (const Argument& a : arguments) align_strides(*a.view, shape, plan->stride[a.operand]);
  }
  coalesce(plan);
  plan->layout = classify(*plan);
  if (plan->sliced && plan->layout == Layout::kDense) plan->layout = Layout::kGeneral;  // in tiles
  for (const Argument& out : outs) {
    if (Status status = check_own_memory(*plan, out); !status.ok()) return status;
  }
  return losses.empty() ? Status() : check_own_memory(*plan, losses[0]);
}

// The part common to all operators: broadcasts `inputs` to the shape of `outs` and sets the plan's loop nest.
// `loss` is the result of a sum or mean, if any: 0-dimensional or of slices. `loss_grad` is the grad_output
// that broadcasts to the latter.
Status set_shape(Arguments inputs, Arguments outs, const Argument* loss, Plan* plan,
                 const Argument* loss_grad = nullptr) {
  plan->operands = 0;
  plan->sliced = loss != nullptr && !loss->view->shape.empty();
  plan->holds_unit_gradient = false;
  plan->dtypes[kWeight] = DType::kFloat32;  // not a mask
  std::fill_n(plan->offset, kOperands, 0);
  if (loss != nullptr) plan->loss_dtype = loss->view->dtype;
  if (plan->sliced) {
    Argument losses[2] = {{loss->view, loss->name, kLossOut}};
    if (loss_grad != nullptr) losses[1] = *loss_grad;
    return set_general_shape(inputs, outs, {losses, loss_grad == nullptr ? size_t{1} : size_t{2}}, plan);
  }
  if (loss != nullptr && !loss->view->strides.empty()) return check_extents(*loss);
  return set_dense_shape(inputs, outs, plan) ? Status() : set_general_shape(inputs, outs, {}, plan);
}

Status check_dtypes(std::initializer_list<const Argument*> arguments) {
  for (const Argument* argument : arguments) {
    if (argument->view->dtype > DType::kFloat64) return dtype_error(*argument);
  }
  return {};
}

// A weight must not widen the differences, and so has a dtype that the operands' promoted dtype holds.
Status check_weight_dtype(const Argument& weight, DType promoted, const Names& names) {
  const DType dtype = weight.view->dtype;
  if (dtype == DType::kBool || (dtype <= DType::kFloat64 && promote(promoted, dtype) == promoted)) return {};
  if (dtype > DType::kBool) {
    return Status::error(Code::kDType,
                         "%s: expected float32, float16, bfloat16, float64 or bool, got dtype code %d",
                         weight.name, static_cast<int>(dtype));
  }
  return Status::error(
      Code::kDType,
      "%s: expected bool or a dtype that converts exactly to %s, to which %s and %s promote, got %s",
      weight.name, name_of(promoted), names.of[kInput], names.of[kTarget], name_of(dtype));
}

// A mean's 2 / count, or NaN if its divisor depends on the weights.
inline double scale_for(Reduction reduction, const ConstTensor* weight, DType dtype, int64_t count) {
  if (reduction != Reduction::kMean) return 2;
  return weight != nullptr ? std::numeric_limits<double>::quiet_NaN() : mean_scale(dtype, count);
}

}  // namespace

Status make_grad_plan(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                      Reduction reduction, const Tensor& out, Plan* plan, const Names& names,
                      const ConstTensor* weight) {
  const ConstTensor const_out(out);
  const Argument inputs[] = {{&input, names.of[kInput], kInput},
                             {&target, names.of[kTarget], kTarget},
                             {&grad_output, names.of[kGradOutput], kGradOutput},
                             {weight, names.of[kWeight], kWeight}};
  const Argument output{&const_out, names.of[kOut], kOut};
  if (Status status = check_dtypes({&inputs[2], &inputs[0], &inputs[1], &output}); !status.ok())
    return status;
  for (const Argument* argument : {&inputs[2], &inputs[1]}) {
    if (argument->view->dtype == input.dtype) continue;
    return Status::error(Code::kDType, "%s: expected %s, the dtype of %s, got %s", argument->name,
                         name_of(input.dtype), names.of[kInput], name_of(argument->view->dtype));
  }
  if (weight != nullptr) {
    if (Status status = check_weight_dtype(inputs[3], input.dtype, names); !status.ok()) return status;
  }
  if (reduction > Reduction::kSum) return reduction_error(reduction);
  plan->op = Op::kGrad;
  plan->reduction = reduction;
  plan->dtype = input.dtype;
  const Arguments used(inputs, weight == nullptr ? 3 : 4);
  if (Status status = set_shape(used, {&output, 1}, nullptr, plan); !status.ok()) return status;
  plan->scale = scale_for(reduction, weight, input.dtype, numel_of(input));
  return {};
}

Status make_loss_plan(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                      const Tensor& out, Plan* plan, const Names& names, LossRounding rounding,
                      const ConstTensor* weight) {
  const ConstTensor const_out(out);
  const Argument inputs[] = {{&input, names.of[kInput], kInput},
                             {&target, names.of[kTarget], kTarget},
                             {weight, names.of[kWeight], kWeight}};
  const Arguments used(inputs, weight == nullptr ? 2 : 3);
  const Argument output{&const_out, names.of[kOut], kOut};
  if (Status status = check_dtypes({&inputs[0], &inputs[1], &output}); !status.ok()) return status;
  const DType promoted = promote(input.dtype, target.dtype);
  if (weight != nullptr) {
    if (Status status = check_weight_dtype(inputs[2], promoted, names); !status.ok()) return status;
  }
  if (reduction > Reduction::kSum) return reduction_error(reduction);
  plan->op = Op::kLoss;
  plan->reduction = reduction;
  plan->dtype = promoted;
  plan->scale = 2;
  // The square is rounded to the compute dtype, then to `out`. A half compute dtype would add a third
  // rounding.
  if (reduction == Reduction::kNone && out.dtype != plan->dtype && rounding == LossRounding::kOnce)
    plan->dtype = promote(plan->dtype, DType::kFloat32);
  if (reduction == Reduction::kNone) return set_shape(used, {&output, 1}, nullptr, plan);
  if (rounding == LossRounding::kInputsFirst) {  // CANN's operator has no slices
    if (Status status = check_scalar_output(output); !status.ok()) return status;
  }
  return set_shape(used, {}, &output, plan);
}

Status make_loss_and_grad_plan(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                               const ConstTensor& grad_output, const Tensor& loss, const Tensor& out,
                               Plan* plan, const Names& names, const ConstTensor* weight) {
  const ConstTensor const_loss(loss), const_out(out);
  const Argument x{&input, names.of[kInput], kInput}, y{&target, names.of[kTarget], kTarget};
  const Argument g{&grad_output, names.of[kGradOutput], kGradOutput}, w{weight, names.of[kWeight], kWeight};
  const Argument outs[] = {{&const_out, names.of[kOut], kOut}, {&const_loss, names.of[kLossOut], kLossOut}};
  if (Status status = check_dtypes({&x, &y, &g, &outs[1], &outs[0]}); !status.ok()) return status;
  // A wider grad_output would widen the differences and so change the loss.
  const DType promoted = promote(input.dtype, target.dtype);
  if (promote(promoted, grad_output.dtype) != promoted) {
    return Status::error(
        Code::kDType, "%s: expected a dtype that converts exactly to %s, to which %s and %s promote, got %s",
        names.of[kGradOutput], name_of(promoted), names.of[kInput], names.of[kTarget],
        name_of(grad_output.dtype));
  }
  if (weight != nullptr) {
    if (Status status = check_weight_dtype(w, promoted, names); !status.ok()) return status;
  }
  if (reduction > Reduction::kSum) return reduction_error(reduction);
  plan->op = Op::kLossAndGrad;
  plan->reduction = reduction;
  plan->dtype = promoted;
  const Argument unweighted[] = {x, y, g}, weighted[] = {x, y, w, g};
  const Arguments all = weight == nullptr ? Arguments(unweighted) : Arguments(weighted);
  const Arguments without_g = all.first(all.size() - 1);
  if (reduction == Reduction::kNone) {
    if (Status status = set_shape(all, outs, nullptr, plan); !status.ok()) return status;
  } else if (!loss.shape.empty()) {
    if (Status status = set_shape(without_g, {outs, 1}, &outs[1], plan, &g); !status.ok()) return status;
  } else {
    if (Status status = check_rank(g); !status.ok()) return status;
    if (Status status = check_extents(g); !status.ok()) return status;
    for (const int64_t extent : grad_output.shape) {
      if (extent == 1) continue;
      return Status::error(Code::kShape, "%s: expected one element for reduction mean or sum, got shape %s",
                           names.of[kGradOutput], ShapeText(grad_output).text);
    }
    if (Status status = set_shape(without_g, {outs, 1}, &outs[1], plan); !status.ok()) return status;
    plan->operands |= 1 << kGradOutput;  // broadcast: all its strides are 0
    plan->dtypes[kGradOutput] = grad_output.dtype;
    if (plan->numel != 0 && grad_output.dtype != plan->dtype) plan->layout = Layout::kGeneral;
  }
  const bool slices = plan->sliced && plan->slices != 0;
  plan->scale = scale_for(reduction, weight, plan->dtype, slices ? plan->numel / plan->slices : plan->numel);
  return {};
}

}  // namespace mseloss
