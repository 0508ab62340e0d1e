#include "plan/plan.h"

#include <algorithm>
#include <cstdio>

#include "numerics/float_environment.h"
#include "numerics/scale.h"
#include "plan/overlap.h"

namespace mseloss {
namespace {

using View = BasicTensor<const void>;

// "(2, 3)"; extents beyond what fits are counted: an error text has no memory of its own.
struct ShapeText {
  char text[128];
  ShapeText(const int64_t* extents, int rank) {
    constexpr size_t kRoom = 48;  // for an extent, a count and the end
    size_t used = std::snprintf(text, sizeof(text), "(");
    int i = 0;
    for (; i < rank && used + kRoom < sizeof(text); ++i) {
      used += std::snprintf(text + used, sizeof(text) - used, "%s%lld", i == 0 ? "" : ", ",
                            static_cast<long long>(extents[i]));
    }
    if (i < rank) used += std::snprintf(text + used, sizeof(text) - used, ", and %d more", rank - i);
    std::snprintf(text + used, sizeof(text) - used, ")");
  }
  explicit ShapeText(const View& view) : ShapeText(view.shape.data(), static_cast<int>(view.shape.size())) {}
};

struct Argument {
  const View* view;
  const char* name;
  Operand operand;
};

bool known(DType dtype) { return dtype <= DType::kFloat64; }

Status check_dtype(const Argument& argument) {
  if (known(argument.view->dtype)) return {};
  return Status::error(Code::kDType, "%s: expected float32, float16, bfloat16 or float64, got dtype code %d",
                       argument.name, static_cast<int>(argument.view->dtype));
}

Status check_reduction(Reduction reduction) {
  if (reduction <= Reduction::kSum) return {};
  return Status::error(Code::kReduction, "reduction: expected none (0), mean (1) or sum (2), got %d",
                       static_cast<int>(reduction));
}

Status check_rank(const Argument& argument) {
  if (argument.view->shape.size() <= kMaxRank) return {};
  return Status::error(Code::kRank, "%s: expected at most %d dimensions, got %zu", argument.name, kMaxRank,
                       argument.view->shape.size());
}

// Extents and strides that no memory could have are refused here, so that no later product overflows.
Status check_extents(const Argument& argument) {
  const View& view = *argument.view;
  if (!view.strides.empty() && view.strides.size() != view.shape.size()) {
    return Status::error(Code::kShape, "%s: expected %zu strides, one for each dimension, got %zu",
                         argument.name, view.shape.size(), view.strides.size());
  }
  int64_t count = 1;
  bool fits = true, empty = false;
  for (const int64_t extent : view.shape) {
    if (extent < 0) {
      return Status::error(Code::kShape, "%s: expected extents of at least 0, got shape %s", argument.name,
                           ShapeText(view).text);
    }
    empty = empty || extent == 0;
    if (extent != 0) fits = fits && !__builtin_mul_overflow(count, extent, &count);
  }
  int64_t reach = size_of(view.dtype), bytes;
  if (view.strides.empty()) {
    fits = fits && !__builtin_mul_overflow(count, reach, &bytes);
  } else if (!empty) {
    for (size_t i = 0; i < view.shape.size(); ++i) {
      const int64_t stride = view.strides[i];
      if (view.shape[i] == 1) continue;
      fits = fits && stride != INT64_MIN &&
             !__builtin_mul_overflow(stride < 0 ? -stride : stride, view.shape[i] - 1, &bytes) &&
             !__builtin_mul_overflow(bytes, int64_t{size_of(view.dtype)}, &bytes) &&
             !__builtin_add_overflow(reach, bytes, &reach);
    }
  }
  if (fits) return {};
  return Status::error(Code::kShape, "%s: expected a view of less than 2^63 elements and bytes, got shape %s",
                       argument.name, ShapeText(view).text);
}

struct BroadcastShape {
  int rank = 0;
  int64_t extent[kMaxRank];
  int64_t count = 1;
};

Status broadcast(const Argument* arguments, int count, BroadcastShape* shape) {
  for (int a = 0; a < count; ++a) {
    shape->rank = std::max(shape->rank, static_cast<int>(arguments[a].view->shape.size()));
  }
  std::fill_n(shape->extent, kMaxRank, 1);
  for (int a = 0; a < count; ++a) {
    const auto& extents = arguments[a].view->shape;
    int64_t* aligned = shape->extent + shape->rank - extents.size();
    for (size_t i = 0; i < extents.size(); ++i) {
      if (extents[i] == aligned[i] || extents[i] == 1) continue;
      if (aligned[i] == 1) {
        aligned[i] = extents[i];
        continue;
      }
      const BroadcastShape so_far = *shape;
      return Status::error(Code::kShape, "%s: expected a shape that broadcasts with %s, got %s",
                           arguments[a].name, ShapeText(so_far.extent, so_far.rank).text,
                           ShapeText(*arguments[a].view).text);
    }
  }
  for (int i = 0; i < shape->rank; ++i) {
    if (shape->extent[i] == 0) {
      shape->count = 0;
      return {};
    }
  }
  for (int i = 0; i < shape->rank; ++i) {
    if (__builtin_mul_overflow(shape->count, shape->extent[i], &shape->count)) {
      return Status::error(Code::kShape, "%s: expected a broadcast shape of less than 2^63 elements, got %s",
                           arguments[0].name, ShapeText(shape->extent, shape->rank).text);
    }
  }
  return {};
}

Status check_output_shape(const Argument& out, const BroadcastShape& shape) {
  const auto& extents = out.view->shape;
  if (static_cast<int>(extents.size()) == shape.rank &&
      std::equal(extents.begin(), extents.end(), shape.extent)) {
    return {};
  }
  return Status::error(Code::kShape, "%s: expected the broadcast shape %s, got %s", out.name,
                       ShapeText(shape.extent, shape.rank).text, ShapeText(*out.view).text);
}

Status check_scalar_output(const Argument& out) {
  if (out.view->shape.empty()) return {};
  return Status::error(Code::kShape, "%s: expected a 0-dimensional tensor for reduction mean or sum, got %s",
                       out.name, ShapeText(*out.view).text);
}

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

bool has(const Plan& plan, int operand) { return plan.operands >> operand & 1; }

// What decides the order of dimensions at first: the output's strides; without one, the inputs'.
int64_t order_key(const Plan& plan, int dimension) {
  if (has(plan, kOut)) return std::abs(plan.stride[kOut][dimension]);
  return std::max(std::abs(plan.stride[kInput][dimension]), std::abs(plan.stride[kTarget][dimension]));
}

void copy_dimension(Plan* plan, int from, int to) {
  plan->extent[to] = plan->extent[from];
  for (auto& strides : plan->stride) strides[to] = strides[from];
}

void swap_dimensions(Plan* plan, int a, int b) {
  std::swap(plan->extent[a], plan->extent[b]);
  for (auto& strides : plan->stride) std::swap(strides[a], strides[b]);
}

// The operand's dimension of the smallest stride; -1 if it does not move.
int contiguous_dimension(const Plan& plan, int operand, int rank) {
  int best = -1;
  for (int d = rank; d-- > 0;) {
    const int64_t stride = std::abs(plan.stride[operand][d]);
    if (stride != 0 && (best < 0 || stride < std::abs(plan.stride[operand][best]))) best = d;
  }
  return best;
}

// Each operand that is not contiguous along the innermost dimension goes through tiles, so the one that most
// operands prefer comes last; the output's at a tie.
void choose_innermost(Plan* plan, int rank) {
  int votes[kMaxRank] = {};
  for (int o = 0; o < kOperands; ++o) {
    const int d = has(*plan, o) ? contiguous_dimension(*plan, o, rank) : -1;
    if (d >= 0) ++votes[d];
  }
  int best = rank - 1;
  for (int d = 0; d < rank; ++d) {
    if (votes[d] > votes[best]) best = d;
  }
  for (int d = best; d + 1 < rank; ++d) swap_dimensions(plan, d, d + 1);
}

// Drops dimensions of one element, turns those the output walks backwards, orders and merges the rest.
void coalesce(Plan* plan) {
  int rank = 0;
  for (int d = 0; d < plan->rank; ++d) {
    if (plan->extent[d] != 1) copy_dimension(plan, d, rank++);
  }
  const int leader = has(*plan, kOut) ? kOut : kInput;
  for (int d = 0; d < rank; ++d) {
    if (plan->stride[leader][d] >= 0) continue;
    for (int o = 0; o < kOperands; ++o) {
      plan->offset[o] += plan->stride[o][d] * (plan->extent[d] - 1);
      plan->stride[o][d] = -plan->stride[o][d];
    }
  }
  for (int d = 1; d < rank; ++d) {
    for (int i = d; i > 0 && order_key(*plan, i - 1) < order_key(*plan, i); --i)
      swap_dimensions(plan, i - 1, i);
  }
  if (rank > 1) choose_innermost(plan, rank);
  int merged = 0;
  for (int d = 1; d < rank; ++d) {
    bool joins = true;
    for (const auto& strides : plan->stride) joins = joins && strides[merged] == strides[d] * plan->extent[d];
    if (joins) {
      const int64_t extent = plan->extent[merged] * plan->extent[d];
      copy_dimension(plan, d, merged);
      plan->extent[merged] = extent;
    } else {
      copy_dimension(plan, d, ++merged);
    }
  }
  plan->rank = rank == 0 ? 0 : merged + 1;
}

Layout classify(const Plan& plan) {
  constexpr int64_t kRow = 64;  // elements: shorter rows are cheaper through tiles
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
  return plan.extent[inner] >= kRow ? Layout::kRows : Layout::kGeneral;
}

ByteView byte_view(const Plan& plan, int operand, const void* data) {
  const int size = size_of(plan.dtypes[operand]);
  ByteView view{};
  view.first = reinterpret_cast<intptr_t>(data) + plan.offset[operand] * size;
  view.width = size;
  view.rank = plan.rank;
  for (int d = 0; d < plan.rank; ++d) {
    view.extent[d] = plan.extent[d];
    view.stride[d] = plan.stride[operand][d] * size;
  }
  return view;
}

Status check_self_overlap(const Plan& plan, const Argument& out) {
  if (plan.numel == 0 || !may_overlap_itself(byte_view(plan, out.operand, nullptr))) return {};
  return Status::error(Code::kOverlap,
                       "%s: expected strides that give every element memory of its own, "
                       "got elements that share memory in shape %s",
                       out.name, ShapeText(*out.view).text);
}

int64_t numel_of(const View& view) {
  int64_t count = 1;
  for (const int64_t extent : view.shape) count *= extent;
  return count;
}

// The part every operator shares: `inputs` broadcast to `outs`' shape.
Status lay_out(const Argument* inputs, int input_count, const Argument* outs, int out_count,
               const Argument* scalar_out, Plan* plan) {
  BroadcastShape shape;
  for (int i = 0; i < input_count; ++i) {
    if (Status status = check_rank(inputs[i]); !status.ok()) return status;
  }
  for (int i = 0; i < out_count; ++i) {
    if (Status status = check_rank(outs[i]); !status.ok()) return status;
  }
  for (int i = 0; i < input_count; ++i) {
    if (Status status = check_extents(inputs[i]); !status.ok()) return status;
  }
  for (int i = 0; i < out_count; ++i) {
    if (Status status = check_extents(outs[i]); !status.ok()) return status;
  }
  if (Status status = broadcast(inputs, input_count, &shape); !status.ok()) return status;
  for (int i = 0; i < out_count; ++i) {
    if (Status status = check_output_shape(outs[i], shape); !status.ok()) return status;
  }
  if (scalar_out != nullptr) {
    if (Status status = check_scalar_output(*scalar_out); !status.ok()) return status;
    plan->loss_dtype = scalar_out->view->dtype;
  }
  plan->rank = shape.rank;
  plan->numel = shape.count;
  plan->operands = 0;
  std::copy_n(shape.extent, kMaxRank, plan->extent);
  std::fill_n(plan->offset, kOperands, 0);
  for (int o = 0; o < kOperands; ++o) std::fill_n(plan->stride[o], kMaxRank, 0);
  const auto place = [&](const Argument& argument) {
    plan->operands |= 1 << argument.operand;
    plan->dtypes[argument.operand] = argument.view->dtype;
    if (plan->numel != 0) align_strides(*argument.view, shape, plan->stride[argument.operand]);
  };
  for (int i = 0; i < input_count; ++i) place(inputs[i]);
  for (int i = 0; i < out_count; ++i) place(outs[i]);
  if (plan->numel != 0) coalesce(plan);
  plan->layout = classify(*plan);
  for (int i = 0; i < out_count; ++i) {
    if (Status status = check_self_overlap(*plan, outs[i]); !status.ok()) return status;
  }
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
    if (Status status = check_dtype(*argument); !status.ok()) return status;
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
  for (const Argument& argument : {inputs[2], inputs[1]}) {
    if (argument.view->dtype == input.dtype) continue;
    return Status::error(Code::kDType, "%s: expected the dtype of %s, %s, got %s", argument.name, names.input,
                         name_of(input.dtype), name_of(argument.view->dtype));
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
  if (Status status = check_reduction(reduction); !status.ok()) return status;
  plan->op = Op::kLossAndGrad;
  plan->reduction = reduction;
  plan->dtype = promote(promote(input.dtype, target.dtype), grad_output.dtype);
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

namespace {

bool same_view(const Plan& plan, int a, const void* a_data, int b, const void* b_data) {
  return a_data == b_data && plan.dtypes[a] == plan.dtypes[b] && plan.offset[a] == plan.offset[b] &&
         std::equal(plan.stride[a], plan.stride[a] + plan.rank, plan.stride[b]);
}

ByteView scalar_view(const void* data, DType dtype) {
  ByteView view{};
  view.first = reinterpret_cast<intptr_t>(data);
  view.width = size_of(dtype);
  return view;
}

Status overlap_error(const char* out, const char* other, bool exact_allowed) {
  return Status::error(Code::kOverlap, "%s: expected memory apart from %s%s, got memory that overlaps it",
                       out, other,
                       exact_allowed ? " or exactly its view (same address, strides and dtype)" : "");
}

}  // namespace

Status check_buffers(const Plan& plan, const Buffers& buffers, const Names& names) {
  const bool sums = plan.op != Op::kGrad && plan.reduction != Reduction::kNone;
  const void* data[kOperands] = {buffers.grad_output, buffers.input, buffers.target, buffers.out,
                                 buffers.loss};
  const char* name[kOperands] = {names.grad_output, names.input, names.target, names.out, names.loss};
  const void* scalar = nullptr;
  const char* scalar_name = nullptr;
  if (sums) {
    scalar = plan.op == Op::kLoss ? buffers.out : buffers.loss;
    scalar_name = plan.op == Op::kLoss ? names.out : names.loss;
    if (scalar == nullptr) {
      return Status::error(Code::kNullPointer, "%s: expected the address of one element, got a null pointer",
                           scalar_name);
    }
  }
  if (plan.numel == 0) return {};
  for (int o = 0; o < kOperands; ++o) {
    if (has(plan, o) && data[o] == nullptr) {
      return Status::error(Code::kNullPointer,
                           "%s: expected the address of %lld broadcast elements, got a null pointer", name[o],
                           static_cast<long long>(plan.numel));
    }
  }
  const bool fused_none = plan.op == Op::kLossAndGrad && plan.reduction == Reduction::kNone;
  for (const int out : {kOut, kOut2}) {
    if (!has(plan, out)) continue;
    const ByteView written = byte_view(plan, out, data[out]);
    for (int o = 0; o < out; ++o) {
      if (!has(plan, o)) continue;
      const bool exact_allowed = !fused_none && o != kOut;
      if (exact_allowed && same_view(plan, out, data[out], o, data[o])) continue;
      if (may_share_memory(written, byte_view(plan, o, data[o])))
        return overlap_error(name[out], name[o], exact_allowed);
    }
  }
  if (scalar != nullptr) {
    const ByteView written = scalar_view(scalar, plan.loss_dtype);
    for (int o = 0; o < kOperands; ++o) {
      if (has(plan, o) && may_share_memory(written, byte_view(plan, o, data[o]))) {
        return overlap_error(scalar_name, name[o], false);
      }
    }
  }
  return {};
}

}  // namespace mseloss
