// The checks of a plan that need addresses.
#include <algorithm>
#include <bit>
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
    if (step < 0) low += step;
    reach += std::abs(step);
  }
  const int64_t size = size_of(plan.dtypes[operand]);
  return {reinterpret_cast<uintptr_t>(data) + static_cast<uint64_t>(low * size),
          static_cast<uint64_t>(reach * size)};
}

// The 0-dimensional loss, which is not part of the loop nest, if there is one.
bool is_scalar_loss(const Plan& plan, int operand) {
  return has_sum(plan) && !plan.sliced && operand == loss_operand(plan);
}

ByteView written_view(const Plan& plan, int out, const void* data) {
  if (!is_scalar_loss(plan, out)) return byte_view(plan, out, data);
  return {reinterpret_cast<intptr_t>(data), size_of(plan.loss_dtype), 0, {}, {}};
}

// For an output and another operand whose byte ranges intersect. Not inline: this is rare, and the search for
// such operands would run out of registers.
[[gnu::noinline]] Status check_shared(const Plan& plan, const Buffers& buffers, const Names& names, int out,
                                      int other) {
  const bool fused_none = plan.op == Op::kLossAndGrad && plan.reduction == Reduction::kNone;
  const bool exact_allowed = !fused_none && out == kOut && !is_scalar_loss(plan, out);
  if (exact_allowed && same_view(plan, out, buffers[out], other, buffers[other])) return {};
  if (!may_share_memory(written_view(plan, out, buffers[out]), byte_view(plan, other, buffers[other])))
    return {};
  return overlap_error(names.of[out], names.of[other], exact_allowed);
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
  unsigned present = plan.operands;
  for (unsigned rest = present; rest != 0; rest &= rest - 1) {
    const int o = std::countr_zero(rest);
    if (buffers[o] == nullptr) {
      return Status::error(
          Code::kNullPointer,
          "%s: expected the address of its elements (%lld in the broadcast shape), got a null pointer",
          names.of[o], static_cast<long long>(plan.numel));
    }
    ranges[o] = byte_range(plan, o, buffers[o]);
  }
  if (sums) {
    present |= 1 << scalar;
    ranges[scalar] = {reinterpret_cast<uintptr_t>(buffers[scalar]),
                      static_cast<uint64_t>(size_of(plan.loss_dtype))};
  }
  for (const int out : {kOut, kLossOut}) {
    if ((present >> out & 1) == 0) continue;
    const ByteRange written = ranges[out];
    for (unsigned rest = present & ((1 << out) - 1); rest != 0; rest &= rest - 1) {
      const int o = std::countr_zero(rest);
      if (!intersect(written, ranges[o])) continue;
      if (Status status = check_shared(plan, buffers, names, out, o); !status.ok()) return status;
    }
  }
  return {};
}

}  // namespace mseloss
