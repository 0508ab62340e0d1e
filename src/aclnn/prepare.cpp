// The first phase: checks in CANN's order, then the plan.
#include <algorithm>
#include <cstdio>

#include "acl/error.h"
#include "aclnn/executor.h"
#include "opdev/op_errno.h"
#include "plan/arguments.h"

namespace mseloss::aclnn {

namespace {

struct Operands {
  const OperatorInfo& info;
  Tensors::Pin tensors[4];
  const TensorDescriptor& operator[](int i) const { return tensors[i]->descriptor; }
};

aclnnStatus acquire_tensors(Operands& operands, const aclTensor* const* handles) noexcept {
  const OperatorInfo& info = operands.info;
  for (int i = 0; i < info.operands; ++i) {
    operands.tensors[i] = tensors.acquire(handles[i]);
    if (operands.tensors[i]) continue;
    return fail(ACLNN_ERR_PARAM_INVALID, "%s: %s: expected a live tensor, got %p", info.name,
                name_of(info, i), static_cast<const void*>(handles[i]));
  }
  return ACLNN_SUCCESS;
}

bool convert(aclDataType from, DType* to) noexcept {
  switch (from) {
    case ACL_FLOAT:
      *to = DType::kFloat32;
      return true;
    case ACL_FLOAT16:
      *to = DType::kFloat16;
      return true;
    case ACL_BF16:
      *to = DType::kBFloat16;
      return true;
    default:
      return false;
  }
}

// "float16", or "aclDataType 3" for a dtype that mseloss does not support.
struct DTypeText {
  char text[32];
  explicit DTypeText(aclDataType dtype) noexcept {
    if (DType known; convert(dtype, &known)) {
      std::snprintf(text, sizeof(text), "%s", name_of(known));
    } else {
      std::snprintf(text, sizeof(text), "aclDataType %d", static_cast<int>(dtype));
    }
  }
};

aclnnStatus check_dtypes(const Operands& operands, DType* dtypes) noexcept {
  const OperatorInfo& info = operands.info;
  if (info.op == Op::kGrad) {
    for (const int i : {0, 2}) {
      if (operands[i].dtype == operands[1].dtype) continue;
      return fail(ACLNN_ERR_PARAM_INVALID, "%s: %s: expected the dtype of self, %s, got %s", info.name,
                  name_of(info, i), DTypeText(operands[1].dtype).text, DTypeText(operands[i].dtype).text);
    }
  }
  // The gradient's inputs have one dtype at this point; an unsupported one is reported for self.
  for (const int i : {1, 0, 2, 3}) {
    if (i >= info.operands || convert(operands[i].dtype, &dtypes[i])) continue;
    return fail(ACLNN_ERR_PARAM_INVALID, "%s: %s: expected float32, float16 or bfloat16, got %s", info.name,
                name_of(info, i), DTypeText(operands[i].dtype).text);
  }
  return ACLNN_SUCCESS;
}

aclnnStatus check_reduction(const OperatorInfo& info, int64_t reduction) noexcept {
  static_assert(static_cast<int>(Reduction::kNone) == 0 && static_cast<int>(Reduction::kMean) == 1 &&
                static_cast<int>(Reduction::kSum) == 2);
  if (reduction >= 0 && reduction <= 2) return ACLNN_SUCCESS;
  return fail(ACLNN_ERR_PARAM_INVALID, "%s: reduction: expected 0 (none), 1 (mean) or 2 (sum), got %lld",
              info.name, static_cast<long long>(reduction));
}

// The plan of a sum over dimension 0 of the broadcast shape, or of all elements if that has no other
// dimension.
Status make_loss_out_plan(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                          const mseloss::Tensor& out, Plan* plan, const Names& names) {
  // Checks the inputs; with at most one dimension this is already the plan.
  const mseloss::Tensor scalar(nullptr, out.dtype);
  if (Status status = make_loss_plan(input, target, reduction, scalar, plan, names); !status.ok())
    return status;
  const Argument inputs[] = {{&input, names.of[kInput], kInput}, {&target, names.of[kTarget], kTarget}};
  const ConstTensor const_out(out);
  const Argument output{&const_out, names.of[kOut], kOut};
  if (Status status = check_rank(output); !status.ok()) return status;
  if (Status status = check_extents(output); !status.ok()) return status;
  BroadcastShape shape;
  if (Status status = broadcast(inputs, &shape); !status.ok()) return status;
  if (shape.rank <= 1) return check_scalar_output(output);
  const std::span<const int64_t> columns(shape.extent + 1, static_cast<size_t>(shape.rank - 1));
  if (!std::ranges::equal(out.shape, columns)) {
    return Status::error(
        Code::kShape,
        "%s: expected the broadcast shape %s without its first dimension for reduction mean or sum, got %s",
        names.of[kOut], ShapeText(shape.extent, shape.rank).text, ShapeText(const_out).text);
  }
  // `out` with a dimension 0 of extent 1, over which the core sums.
  int64_t extents[kMaxRank] = {1}, strides[kMaxRank] = {0};
  std::ranges::copy(out.shape, extents + 1);
  std::ranges::copy(out.strides, strides + 1);
  const auto rank = static_cast<size_t>(shape.rank);
  const mseloss::Tensor slices(nullptr, out.dtype, {extents, rank}, {strides, rank});
  return make_loss_plan(input, target, reduction, slices, plan, names);
}

aclnnStatus make_plan(const Operands& operands, const DType* dtypes, Reduction reduction,
                      Plan* plan) noexcept {
  const OperatorInfo& info = operands.info;
  const auto input = [&](int i) {
    return ConstTensor(nullptr, dtypes[i], operands[i].shape(), operands[i].strides());
  };
  const int o = info.operands - 1;
  const mseloss::Tensor out(nullptr, dtypes[o], operands[o].shape(), operands[o].strides());
  if (info.op == Op::kGrad) {
    return translate(info, make_grad_plan(input(0), input(1), input(2), reduction, out, plan, info.names));
  }
  if (info.reduces_first_dimension && reduction != Reduction::kNone) {
    return translate(info, make_loss_out_plan(input(0), input(1), reduction, out, plan, info.names));
  }
  return translate(
      info, make_loss_plan(input(0), input(1), reduction, out, plan, info.names, LossRounding::kInputsFirst));
}

aclnnStatus check_storage(const Operands& operands) noexcept {
  const OperatorInfo& info = operands.info;
  int outside = -1;  // reported unless a format is wrong
  for (int i = 0; i < info.operands; ++i) {
    if (!operands[i].strides_describe) {
      return fail(
          ACLNN_ERR_PARAM_INVALID,
          "%s: %s: expected a format that strides describe (ND, NCHW, NHWC, ...) or a storage of the view's "
          "shape, got aclFormat %d",
          info.name, name_of(info, i), static_cast<int>(operands[i].format));
    }
    if (!operands[i].inside_storage && outside < 0) outside = i;
  }
  if (outside < 0) return ACLNN_SUCCESS;
  return fail(ACLNN_ERR_PARAM_INVALID,
              "%s: %s: expected a view inside its storage, got one that exceeds it (offset %lld)", info.name,
              name_of(info, outside), static_cast<long long>(operands[outside].offset));
}

void record_views(const Operands& operands, const DType* dtypes, OperandView* views) noexcept {
  for (int i = 0; i < operands.info.operands; ++i) {
    const TensorDescriptor& descriptor = operands[i];
    OperandView& view = views[operands.info.positions[i]];
    view.dtype = dtypes[i];
    view.rank = static_cast<int>(descriptor.rank);
    std::ranges::copy(descriptor.shape(), view.extent);
    std::ranges::copy(descriptor.strides(), view.stride);
  }
}

void record_operands(Operands& operands, const DType* dtypes, Executor* executor) noexcept {
  const Device* const selected = device();
  if (selected != nullptr && selected->reads_views) record_views(operands, dtypes, executor->call.views);
  for (int i = 0; i < operands.info.operands; ++i) {
    executor->offset[i] = operands[i].first_byte;
    executor->tensors[i] = std::move(operands.tensors[i]);
  }
}

// Addresses may be set after the first phase, so null ones are checked in the second phase.
aclnnStatus check_known_addresses(Executor& executor) noexcept {
  const Buffers buffers = buffers_of(executor);
  for (int i = 0; i < executor.info.operands; ++i) {
    if (buffers[executor.info.positions[i]] == nullptr) return ACLNN_SUCCESS;
  }
  return check_addresses(executor, buffers);
}

aclnnStatus fill_executor(Operands& operands, const DType* dtypes, Reduction reduction,
                          Executor* executor) noexcept {
  if (const aclnnStatus code = make_plan(operands, dtypes, reduction, &executor->call.plan)) return code;
  if (const aclnnStatus code = check_storage(operands)) return code;
  record_operands(operands, dtypes, executor);
  return check_known_addresses(*executor);
}

}  // namespace

aclnnStatus prepare(const OperatorInfo& info, const aclTensor* const* handles, int64_t reduction,
                    uint64_t* workspace_size, aclOpExecutor** executor) noexcept {
  for (int i = 0; i < info.operands; ++i) {
    if (handles[i] != nullptr) continue;
    return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: %s: expected a tensor, got null", info.name, name_of(info, i));
  }
  if (workspace_size == nullptr || executor == nullptr) {
    return fail(ACLNN_ERR_PARAM_NULLPTR, "%s: %s: expected an address for the result, got null", info.name,
                workspace_size == nullptr ? "workspaceSize" : "executor");
  }
  Operands operands{info, {}};
  DType dtypes[4];
  if (const aclnnStatus code = acquire_tensors(operands, handles)) return code;
  if (const aclnnStatus code = check_dtypes(operands, dtypes)) return code;
  if (const aclnnStatus code = check_reduction(info, reduction)) return code;
  auto created = executors.draft(info);
  if (!created) return fail(ACLNN_ERR_INNER_CREATE_EXECUTOR, "%s: executor: out of memory", info.name);
  if (const aclnnStatus code =
          fill_executor(operands, dtypes, static_cast<Reduction>(reduction), &*created)) {
    return code;
  }
  *workspace_size = 0;
  *executor = static_cast<aclOpExecutor*>(created.publish());
  return ACLNN_SUCCESS;
}

}  // namespace mseloss::aclnn
