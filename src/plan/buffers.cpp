// The checks of a plan that need addresses.
#include <algorithm>
#include <cstdlib>

#include "plan/arguments.h"

namespace mseloss {

ByteView byte_view(const Plan& plan, int operand, const void* data) {
  const int size = size_of(plan.dtypes[operand]);
  ByteView view;
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

// The smallest byte range that contains an operand. Addresses wrap around, as pointers do.
struct ByteRange {
  uint64_t low, size;
};

bool intersect(const ByteRange& a, const ByteRange& b) {
  return a.low - b.low < b.size || b.low - a.low < a.size;
}

ByteRange byte_range(const Plan& plan, int operand, const void* data) {
  int64_t low = plan.offset[operand], reach = 1;
  for (int d = 0; d < plan.rank; ++d) {
    const int64_t step = plan.stride[operand][d] * (plan.extent[d] - 1);
    low += std::min<int64_t>(step, 0);
    reach += std::abs(step);
  }
  const int64_t size = size_of(plan.dtypes[operand]);
  return {reinterpret_cast<uintptr_t>(data) + static_cast<uint64_t>(low * size),
          static_cast<uint64_t>(reach * size)};
}

ByteView scalar_view(const void* data, DType dtype) {
  return {reinterpret_cast<intptr_t>(data), size_of(dtype), 0, {}, {}};
}

}  // namespace

Status check_buffers(const Plan& plan, const Buffers& buffers, const Names& names) {
  const bool sums = has_sum(plan) && !plan.sliced;
  const Operand scalar = loss_operand(plan);
  if (sums && buffers[scalar] == nullptr) {
    return Status::error(Code::kNullPointer, "%s: expected the address of one element, got a null pointer",
                         names.of[scalar]);
  }
  if (plan.sliced && plan.slices != 0 && buffers[kLossOut] == nullptr) {
    return Status::error(Code::kNullPointer,
                         "%s: expected the address of its elements (%lld), got a null pointer",
                         names.of[kLossOut], static_cast<long long>(plan.slices));
  }
  if (plan.numel == 0) return {};
  ByteRange ranges[kOperands];
  int null = -1;
  for_each_operand(plan, [&](int o) {
    if (buffers[o] == nullptr && null < 0) null = o;
    ranges[o] = byte_range(plan, o, buffers[o]);
  });
  if (null >= 0) {
    return Status::error(
        Code::kNullPointer,
        "%s: expected the address of its elements (%lld in the broadcast shape), got a null pointer",
        names.of[null], static_cast<long long>(plan.numel));
  }
  const bool fused_none = plan.op == Op::kLossAndGrad && plan.reduction == Reduction::kNone;
  for (const int out : {kOut, kLossOut}) {
    if (!has(plan, out)) continue;
    for (int o = 0; o < out; ++o) {
      if (!has(plan, o) || !intersect(ranges[out], ranges[o])) continue;
      const bool exact_allowed = !fused_none && out == kOut;
      if (exact_allowed && same_view(plan, out, buffers[out], o, buffers[o])) continue;
      if (may_share_memory(byte_view(plan, out, buffers[out]), byte_view(plan, o, buffers[o]))) {
        return overlap_error(names.of[out], names.of[o], exact_allowed);
      }
    }
  }
  if (!sums) return {};
  const ByteRange written{reinterpret_cast<uintptr_t>(buffers[scalar]),
                          static_cast<uint64_t>(size_of(plan.loss_dtype))};
  for (int o = 0; o < kOperands; ++o) {
    if (!has(plan, o) || !intersect(written, ranges[o])) continue;
    if (may_share_memory(scalar_view(buffers[scalar], plan.loss_dtype), byte_view(plan, o, buffers[o]))) {
      return overlap_error(names.of[scalar], names.of[o], false);
    }
  }
  return {};
}

}  // namespace mseloss
