// Reduces a plan to the fewest dimensions and orders them.
#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "plan/arguments.h"

namespace mseloss {
namespace {

// Dimensions are sorted by this key, descending: the output's stride or, without an output, the larger of the
// inputs' strides.
int64_t order_key(const Plan& plan, int dimension) {
  if (has(plan, kOut)) return std::abs(plan.stride[kOut][dimension]);
  return std::max({std::abs(plan.stride[kInput][dimension]), std::abs(plan.stride[kTarget][dimension]),
                   std::abs(plan.stride[kWeight][dimension])});
}

void copy_dimension(Plan* plan, int from, int to) {
  plan->extent[to] = plan->extent[from];
  for (auto& strides : plan->stride) strides[to] = strides[from];
}

void swap_dimensions(Plan* plan, int a, int b) {
  std::swap(plan->extent[a], plan->extent[b]);
  for (auto& strides : plan->stride) std::swap(strides[a], strides[b]);
}

// Sums along a short innermost dimension, or of few short rows, cost more than transposing the operands and
// summing the columns along another dimension: returns the longest dimension that is not reduced, if the
// slices along `inner` are that short, else `inner`.
int columns_for_short_slices(const Plan& plan, int inner) {
  constexpr int64_t kShort = 4, kColumns = 32, kVector = 16;  // elements
  const int64_t extent = plan.extent[inner];
  bool is_short = extent <= kShort;
  if (!is_reduced(plan, inner)) {
    // Rows that follow each other take four times the vectors after which their columns repeat, at least
    // (Columns::is_stream()).
    const int64_t stream = extent <= kVector ? 4 * kVector * (extent / std::gcd(extent, kVector)) : 0;
    int64_t elements = extent;
    for (int d = 0; d < plan.rank; ++d) {
      if (is_reduced(plan, d)) elements *= std::min(plan.extent[d], stream + 1);
      elements = std::min(elements, stream);
    }
    is_short = elements < stream;
  }
  if (!is_short) return inner;
  int longest = inner;
  for (int d = 0; d < plan.rank; ++d) {
    if (is_reduced(plan, d) || plan.extent[d] < kColumns) continue;
    if (longest == inner || plan.extent[d] > plan.extent[longest]) longest = d;
  }
  return longest;
}

// An operand that is not contiguous along the innermost dimension must be packed, so the dimension along
// which most operands are contiguous becomes the innermost; at a tie the output's.
void choose_innermost(Plan* plan) {
  const int rank = plan->rank;
  int votes[kMaxRank] = {};
  for (int o = 0; o < kOperands; ++o) {
    // An operand that is broadcast along the output's inner dimension is accessed directly either way.
    if (has(*plan, o) && plan->stride[o][rank - 1] != 0) ++votes[contiguous_dimension(*plan, o)];
  }
  int best = rank - 1;
  for (int d = 0; d < rank; ++d) {
    if (votes[d] > votes[best]) best = d;
  }
  if (plan->sliced) best = columns_for_short_slices(*plan, best);
  for (int d = best; d + 1 < rank; ++d) swap_dimensions(plan, d, d + 1);
}

}  // namespace

int contiguous_dimension(const Plan& plan, int operand) {
  int best = -1;
  for (int d = plan.rank; d-- > 0;) {
    const int64_t stride = std::abs(plan.stride[operand][d]);
    if (stride != 0 && (best < 0 || stride < std::abs(plan.stride[operand][best]))) best = d;
  }
  return best;
}

void coalesce(Plan* plan) {
  int rank = 0;
  for (int d = 0; d < plan->rank; ++d) {
    if (plan->extent[d] != 1) copy_dimension(plan, d, rank++);
  }
  const int reference = has(*plan, kOut) ? kOut : kInput;
  for (int d = 0; d < rank; ++d) {
    if (plan->stride[reference][d] >= 0) continue;
    for (int o = 0; o < kOperands; ++o) {
      plan->offset[o] += plan->stride[o][d] * (plan->extent[d] - 1);
      plan->stride[o][d] = -plan->stride[o][d];
    }
  }
  for (int d = 1; d < rank; ++d) {
    for (int i = d; i > 0 && order_key(*plan, i - 1) < order_key(*plan, i); --i)
      swap_dimensions(plan, i - 1, i);
  }
  plan->rank = rank;
  if (rank > 1) choose_innermost(plan);
  int merged = 0;
  for (int d = 1; d < rank; ++d) {
    bool mergeable = true;
    for (const auto& s : plan->stride) mergeable = mergeable && s[merged] == s[d] * plan->extent[d];
    if (mergeable) {
      const int64_t extent = plan->extent[merged] * plan->extent[d];
      copy_dimension(plan, d, merged);
      plan->extent[merged] = extent;
    } else {
      copy_dimension(plan, d, ++merged);
    }
  }
  plan->rank = rank == 0 ? 0 : merged + 1;
}

}  // namespace mseloss
