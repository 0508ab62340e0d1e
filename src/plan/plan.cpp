#include "plan/plan.h"

#include <algorithm>

#include "numerics/float_environment.h"
#include "numerics/scale.h"
#include "plan/arguments.h"

namespace mseloss {
namespace {

// The operand's strides over the broadcast shape: 0 wherever it has one element for many.
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

Layout classify(const Plan& plan) {
  constexpr int64_t kRowBytes = 64;
  if (plan.numel == 0) return Layout::kEmpty;
  const int inner = std::max(plan.rank - 1, 0);
  bool unit = true, same_dtype = true;
  for (int o = 0; o < kOperands; ++o) {
    if (!has(plan, o)) continue;
    const int64_t stride = plan.rank == 0 ? 0 : plan.stride[o][inner];
    unit = unit && (stride == 1 || (stride == 0 && (o < kOut || plan.rank == 0)));
    same_dtype = same_dtype && plan.dtypes[o] == plan.dtype;
  }
  if (!unit || !same_dtype) return Layout::kGeneral;
  if (plan.rank <= 1) return Layout::kDense;
  return plan.extent[inner] * size_of(plan.dtype) >= kRowBytes ? Layout::kRows : Layout::kGeneral;
}

int64_t numel_of(const View& view) {
  int64_t count = 1;
  for (const int64_t extent : view.shape) count *= extent;
  return count;
}

// The one stride with which the view walks all `count` elements of `shape` in row-major order: 1, or 0 where
// one element stands for all; -1 if there is none.
int single_stride(const View& view, std::span<const int64_t> shape, int64_t count) {
  const size_t rank = view.shape.size(), skip = shape.size() - rank;
  if (rank > shape.size() || (!view.strides.empty() && view.strides.size() != rank)) return -1;
  int64_t elements = 1;
  bool dense = true, still = true;
  for (size_t i = rank; i-- > 0;) {
    const int64_t extent = view.shape[i];
    if (extent == 1) continue;
    if (extent != shape[skip + i]) return -1;
    const int64_t stride = view.strides.empty() ? elements : view.strides[i];
    dense = dense && stride == elements;
    still = still && stride == 0;
    elements *= extent;
  }
  if (still) return 0;
  return dense && elements == count ? 1 : -1;
}

bool same_extents(std::span<const int64_t> a, std::span<const int64_t> b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) return false;
  }
  return true;
}

// The common case at once: operands that are dense, or one element, over one shape are one dimension already.
bool lay_out_dense(const Argument* inputs, int input_count, const Argument* outs, int out_count, Plan* plan) {
  constexpr int64_t kMost = int64_t{1} << 56;  // elements: neither counts nor bytes can overflow below
  const View& leader = out_count > 0 ? *outs[0].view : *inputs[0].view;
  int64_t count = 1;
  if (leader.shape.size() > kMaxRank) return false;
  for (const int64_t extent : leader.shape) {
    if (extent <= 0 || __builtin_mul_overflow(count, extent, &count) || count > kMost) return false;
  }
  const int leading = single_stride(leader, leader.shape, count);
  if (leading < 0 || (out_count > 0 && leading != (count > 1))) return false;
  for (auto& strides : plan->stride) strides[0] = 0;
  if (out_count > 0) plan->stride[outs[0].operand][0] = leading;
  bool full = false;  // else the output is larger than what its inputs broadcast to
  const auto place = [&](const Argument& argument, bool is_output) {
    const View& view = *argument.view;
    const bool same = same_extents(view.shape, leader.shape);
    const bool alike = same && same_extents(view.strides, leader.strides);
    const int stride = alike ? leading : single_stride(view, leader.shape, count);
    plan->stride[argument.operand][0] = stride;
    if (is_output) return same && stride == (count > 1);
    full = full || same;
    return stride >= 0;
  };
  for (int i = 1; i < out_count; ++i) {
    if (!place(outs[i], true)) return false;
  }
  for (int i = 0; i < input_count; ++i) {
    if (!place(inputs[i], false)) return false;
  }
  if (!full) return false;
  plan->rank = count == 1 ? 0 : 1;
  plan->numel = count;
  plan->extent[0] = count;
  return true;
}

// Any shapes and strides.
Status lay_out_general(const Argument* inputs, int input_count, const Argument* outs, int out_count,
                       Plan* plan) {
  for (const auto check : {check_rank, check_extents}) {
    for (int i = 0; i < input_count; ++i) {
      if (Status status = check(inputs[i]); !status.ok()) return status;
    }
    for (int i = 0; i < out_count; ++i) {
      if (Status status = check(outs[i]); !status.ok()) return status;
    }
  }
  BroadcastShape shape;
  if (Status status = broadcast(inputs, input_count, &shape); !status.ok()) return status;
  for (int i = 0; i < out_count; ++i) {
    if (Status status = check_output_shape(outs[i], shape); !status.ok()) return status;
  }
  plan->rank = shape.rank;
  plan->numel = shape.count;
  std::copy_n(shape.extent, kMaxRank, plan->extent);
  for (auto& strides : plan->stride) std::fill_n(strides, kMaxRank, 0);
  if (plan->numel == 0) return {};
  for (int i = 0; i < input_count; ++i)
    align_strides(*inputs[i].view, shape, plan->stride[inputs[i].operand]);
  for (int i = 0; i < out_count; ++i) align_strides(*outs[i].view, shape, plan->stride[outs[i].operand]);
  coalesce(plan);
  for (int i = 0; i < out_count; ++i) {
    if (may_overlap_itself(byte_view(*plan, outs[i].operand, nullptr))) {
      return Status::error(
          Code::kOverlap,
          "%s: expected strides that give every element memory of its own, got elements that "
          "share memory in shape %s",
          outs[i].name, ShapeText(*outs[i].view).text);
    }
  }
  return {};
}

// The part every operator shares: `inputs` broadcast to `outs`' shape.
Status lay_out(const Argument* inputs, int input_count, const Argument* outs, int out_count,
               const Argument* scalar_out, Plan* plan) {
  plan->operands = 0;
  const auto present = [&](const Argument& argument) {
    plan->operands |= 1 << argument.operand;
    plan->dtypes[argument.operand] = argument.view->dtype;
  };
  std::for_each(inputs, inputs + input_count, present);
  std::for_each(outs, outs + out_count, present);
  std::fill_n(plan->offset, kOperands, 0);
  if (!lay_out_dense(inputs, input_count, outs, out_count, plan)) {
    if (Status status = lay_out_general(inputs, input_count, outs, out_count, plan); !status.ok())
      return status;
  }
  if (scalar_out != nullptr) {
    if (Status status = check_scalar_output(*scalar_out); !status.ok()) return status;
    plan->loss_dtype = scalar_out->view->dtype;
  }
  plan->layout = classify(*plan);
  return {};
}

double scale_for(Reduction reduction, DType dtype, int64_t count) {
  if (reduction != Reduction::kMean) return 2;
  const FloatEnvironment environment;
  return dtype == DType::kFloat64 ? mean_scale<double>(count) : double{mean_scale<float>(count)};
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  return a == DType::kFloat64 || b == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

Status check_dtypes(std::initializer_list<const Argument*> arguments) {
  for (const Argument* argument : arguments) {
    if (argument->view->dtype > DType::kFloat64) return dtype_error(*argument);
  }
  return {};
}

}  // namespace

Status make_grad_plan(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                      Reduction reduction, const Tensor& out, Plan* plan, const Names& names) {
  const ConstTensor const_out(out);
  const Argument inputs[] = {{&input, names.input, kInput},
                             {&target, names.target, kTarget},
                             {&grad_output, names.grad_output, kGradOutput}};
  const Argument output{&const_out, names.out, kOut};
  if (Status status = check_dtypes({&inputs[2], &inputs[0], &inputs[1], &output}); !status.ok())
    return status;
  for (const Argument* argument : {&inputs[2], &inputs[1]}) {
    if (argument->view->dtype == input.dtype) continue;
    return Status::error(Code::kDType, "%s: expected the dtype of %s, %s, got %s", argument->name,
                         names.input, name_of(input.dtype), name_of(argument->view->dtype));
  }
  if (Status status = check_reduction(reduction); !status.ok()) return status;
  plan->op = Op::kGrad;
  plan->reduction = reduction;
  plan->dtype = input.dtype;
  if (Status status = lay_out(inputs, 3, &output, 1, nullptr, plan); !status.ok()) return status;
  plan->scale = scale_for(reduction, input.dtype, numel_of(input));
  return {};
}

Status make_loss_plan(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                      const Tensor& out, Plan* plan, const Names& names) {
  const ConstTensor const_out(out);
  const Argument inputs[] = {{&input, names.input, kInput}, {&target, names.target, kTarget}};
  const Argument output{&const_out, names.out, kOut};
  if (Status status = check_dtypes({&inputs[0], &inputs[1], &output}); !status.ok()) return status;
  if (Status status = check_reduction(reduction); !status.ok()) return status;
  plan->op = Op::kLoss;
  plan->reduction = reduction;
  plan->dtype = promote(input.dtype, target.dtype);
  plan->scale = 2;
  // The square is rounded to the compute dtype, then to `out`: a half type in between would round once more.
  if (reduction == Reduction::kNone && out.dtype != plan->dtype)
    plan->dtype = promote(plan->dtype, DType::kFloat32);
  if (reduction == Reduction::kNone) return lay_out(inputs, 2, &output, 1, nullptr, plan);
  return lay_out(inputs, 2, nullptr, 0, &output, plan);
}

Status make_loss_and_grad_plan(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                               const ConstTensor& grad_output, const Tensor& loss, const Tensor& out,
                               Plan* plan, const Names& names) {
  const ConstTensor const_loss(loss), const_out(out);
  const Argument inputs[] = {{&input, names.input, kInput},
                             {&target, names.target, kTarget},
                             {&grad_output, names.grad_output, kGradOutput}};
  const Argument outs[] = {{&const_out, names.out, kOut}, {&const_loss, names.loss, kOut2}};
  if (Status status = check_dtypes({&inputs[0], &inputs[1], &inputs[2], &outs[1], &outs[0]}); !status.ok()) {
    return status;
  }
  // A wider grad_output would change the differences, and with them the loss.
  const DType promoted = promote(input.dtype, target.dtype);
  if (promote(promoted, grad_output.dtype) != promoted) {
    return Status::error(
        Code::kDType, "%s: expected a dtype that %s, which %s and %s promote to, holds, got %s",
        names.grad_output, name_of(promoted), names.input, names.target, name_of(grad_output.dtype));
  }
  if (Status status = check_reduction(reduction); !status.ok()) return status;
  plan->op = Op::kLossAndGrad;
  plan->reduction = reduction;
  plan->dtype = promoted;
  if (reduction == Reduction::kNone) {
    if (Status status = lay_out(inputs, 3, outs, 2, nullptr, plan); !status.ok()) return status;
  } else {
    if (Status status = check_rank(inputs[2]); !status.ok()) return status;
    for (const int64_t extent : grad_output.shape) {
      if (extent == 1) continue;
      return Status::error(Code::kShape, "%s: expected one element for reduction mean or sum, got shape %s",
                           names.grad_output, ShapeText(grad_output).text);
    }
    if (Status status = lay_out(inputs, 2, outs, 1, &outs[1], plan); !status.ok()) return status;
    plan->operands |= 1 << kGradOutput;  // of stride 0 everywhere
    plan->dtypes[kGradOutput] = grad_output.dtype;
    plan->layout = classify(*plan);
  }
  plan->scale = scale_for(reduction, plan->dtype, plan->numel);
  return {};
}

}  // namespace mseloss
