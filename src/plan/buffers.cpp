#include <algorithm>

#include "plan/arguments.h"

namespace mseloss {

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

namespace {

bool same_view(const Plan& plan, int a, const void* a_data, int b, const void* b_data) {
  return a_data == b_data && plan.dtypes[a] == plan.dtypes[b] && plan.offset[a] == plan.offset[b] &&
         std::equal(plan.stride[a], plan.stride[a] + plan.rank, plan.stride[b]);
}

// range_of(byte_view(...)) without building the view.
ByteRange byte_range(const Plan& plan, int operand, const void* data) {
  const int size = size_of(plan.dtypes[operand]);
  int64_t low = plan.offset[operand] * size, high = low + size;
  for (int d = 0; d < plan.rank; ++d) {
    const int64_t reach = plan.stride[operand][d] * (plan.extent[d] - 1) * size;
    (reach < 0 ? low : high) += reach;
  }
  return {reinterpret_cast<intptr_t>(data) + low, reinterpret_cast<intptr_t>(data) + high};
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
  ByteRange range[kOperands];
  for (int o = 0; o < kOperands; ++o) {
    if (has(plan, o)) range[o] = byte_range(plan, o, data[o]);
  }
  for (const int out : {kOut, kOut2}) {
    if (!has(plan, out)) continue;
    for (int o = 0; o < out; ++o) {
      if (!has(plan, o) || !meet(range[out], range[o])) continue;
      const bool exact_allowed = !fused_none && o != kOut;
      if (exact_allowed && same_view(plan, out, data[out], o, data[o])) continue;
      if (may_share_memory(byte_view(plan, out, data[out]), byte_view(plan, o, data[o]))) {
        return overlap_error(name[out], name[o], exact_allowed);
      }
    }
  }
  if (scalar != nullptr) {
    const ByteView written = scalar_view(scalar, plan.loss_dtype);
    for (int o = 0; o < kOperands; ++o) {
      if (!has(plan, o) || !meet(range_of(written), range[o])) continue;
      if (may_share_memory(written, byte_view(plan, o, data[o])))
        return overlap_error(scalar_name, name[o], false);
    }
  }
  return {};
}

}  // namespace mseloss
