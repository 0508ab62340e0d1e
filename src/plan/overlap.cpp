#include "plan/overlap.h"

#include <algorithm>
#include <numeric>

namespace mseloss {
namespace {

using Wide = __int128;

struct Term {
  int64_t coefficient;  // > 0
  int64_t bound;        // the variable ranges over 0..bound
};

// The bounded linear Diophantine equation sum(coefficient * variable) == total. Two views share a byte if and
// only if such an equation has a solution. The search is depth-first from the largest coefficient; the
// maximum and the gcd of the remaining terms leave few candidates per level.
class DiophantineEquation {
 public:
  void add(int64_t coefficient, int64_t bound) {
    if (coefficient == 0 || bound == 0) return;
    if (coefficient < 0) {
      total_ += Wide{-coefficient} * bound;  // replaces the variable by bound - variable
      coefficient = -coefficient;
    }
    terms_[count_++] = {coefficient, bound};
  }
  void add_constant(Wide value) { total_ += value; }

  bool may_have_solution() {
    std::sort(terms_, terms_ + count_,
              [](const Term& a, const Term& b) { return a.coefficient > b.coefficient; });
    max_sum_[count_] = 0;
    gcd_[count_] = 0;
    for (int i = count_; i-- > 0;) {
      max_sum_[i] = max_sum_[i + 1] + Wide{terms_[i].coefficient} * terms_[i].bound;
      gcd_[i] = std::gcd(gcd_[i + 1], terms_[i].coefficient);
    }
    return search(0, total_);
  }

 private:
  static constexpr int kBudget = 100000;

  bool search(int level, Wide remaining) {
    if (remaining < 0 || remaining > max_sum_[level]) return false;
    if (level == count_) return true;  // max_sum_[count_] is 0, so remaining is 0
    if (remaining % gcd_[level] != 0) return false;
    const auto [coefficient, bound] = terms_[level];
    const Wide required = remaining - max_sum_[level + 1];
    const Wide low = required <= 0 ? Wide{0} : (required + coefficient - 1) / coefficient;
    const Wide high = std::min<Wide>(bound, remaining / coefficient);
    for (Wide value = high; value >= low; --value) {
      if (++steps_ > kBudget) return true;
      if (search(level + 1, remaining - value * coefficient)) return true;
    }
    return false;
  }

  Term terms_[20];  // at least 2 + 2 * kMaxRank
  int count_ = 0;
  Wide total_ = 0;
  Wide max_sum_[21];
  int64_t gcd_[21];
  int steps_ = 0;
};

}  // namespace

bool may_share_memory(const ByteView& a, const ByteView& b) {
  // first_a + sum_a + byte_a == first_b + sum_b + byte_b
  DiophantineEquation equation;
  equation.add_constant(Wide{b.first} - a.first);
  equation.add(1, a.width - 1);
  equation.add(-1, b.width - 1);
  for (int i = 0; i < a.rank; ++i) equation.add(a.stride[i], a.extent[i] - 1);
  for (int i = 0; i < b.rank; ++i) equation.add(-b.stride[i], b.extent[i] - 1);
  return equation.may_have_solution();
}

bool may_overlap_itself(const ByteView& view) {
  // The usual case: sorted by stride, each stride is at least the extent in bytes of the smaller dimensions.
  int order[8];  // by insertion sort: GCC 12 warns, falsely, about std::sort of 8 elements
  for (int i = 0; i < view.rank; ++i) {
    int at = i;
    for (; at > 0 && std::abs(view.stride[order[at - 1]]) > std::abs(view.stride[i]); --at)
      order[at] = order[at - 1];
    order[at] = i;
  }
  Wide reach = view.width;
  bool nested = true;
  for (int i = 0; i < view.rank; ++i) {
    const int64_t stride = std::abs(view.stride[order[i]]), extent = view.extent[order[i]];
    if (extent == 1) continue;
    nested = nested && stride >= reach;
    reach += Wide{stride} * (extent - 1);
  }
  if (nested) return false;
  // Otherwise two elements share a byte if |sum(stride * difference)| < width for index differences that are
  // not all zero. By symmetry the first non-zero difference can be assumed positive.
  for (int first = 0; first < view.rank; ++first) {
    if (view.extent[first] == 1) continue;
    DiophantineEquation equation;
    equation.add_constant(-Wide{view.stride[first]});
    equation.add(view.stride[first], view.extent[first] - 2);
    for (int i = first + 1; i < view.rank; ++i) {
      const int64_t max_index = view.extent[i] - 1;
      equation.add_constant(Wide{view.stride[i]} * max_index);
      equation.add(view.stride[i], 2 * max_index);
    }
    equation.add_constant(view.width - 1);
    equation.add(1, 2 * (view.width - 1));
    if (equation.may_have_solution()) return true;
  }
  return false;
}

}  // namespace mseloss
