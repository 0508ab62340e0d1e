#include "plan/overlap.h"

#include <algorithm>
#include <numeric>

namespace mseloss {
namespace {

using Wide = __int128;

struct Term {
  int64_t coefficient;  // > 0
  int64_t bound;        // the variable runs over 0..bound
};

// Is there a solution of sum(coefficient * variable) == total within the bounds? Two views share a byte
// exactly if such an equation has one. Depth-first from the largest coefficient; what the rest can still
// reach (its range and its gcd) leaves few candidates a level.
class Equation {
 public:
  void add(int64_t coefficient, int64_t bound) {
    if (coefficient == 0 || bound == 0) return;
    if (coefficient < 0) {
      total_ += Wide{-coefficient} * bound;  // substitutes bound - variable
      coefficient = -coefficient;
    }
    terms_[count_++] = {coefficient, bound};
  }
  void add_to_total(Wide value) { total_ += value; }

  bool may_have_solution() {
    std::sort(terms_, terms_ + count_,
              [](const Term& a, const Term& b) { return a.coefficient > b.coefficient; });
    reach_[count_] = 0;
    gcd_[count_] = 0;
    for (int i = count_; i-- > 0;) {
      reach_[i] = reach_[i + 1] + Wide{terms_[i].coefficient} * terms_[i].bound;
      gcd_[i] = std::gcd(gcd_[i + 1], terms_[i].coefficient);
    }
    return search(0, total_);
  }

 private:
  static constexpr int kBudget = 100000;

  bool search(int level, Wide rest) {
    if (rest < 0 || rest > reach_[level]) return false;
    if (level == count_) return true;  // its reach is 0, so rest is 0
    if (rest % gcd_[level] != 0) return false;
    const auto [coefficient, bound] = terms_[level];
    const Wide beyond = rest - reach_[level + 1];
    const Wide low = beyond <= 0 ? Wide{0} : (beyond + coefficient - 1) / coefficient;
    const Wide high = std::min<Wide>(bound, rest / coefficient);
    for (Wide value = high; value >= low; --value) {
      if (++steps_ > kBudget) return true;
      if (search(level + 1, rest - value * coefficient)) return true;
    }
    return false;
  }

  Term terms_[20];
  int count_ = 0;
  Wide total_ = 0;
  Wide reach_[21];
  int64_t gcd_[21];
  int steps_ = 0;
};

// The bytes a view lies within: from low to before high.
struct ByteRange {
  Wide low, high;
};

bool meet(const ByteRange& a, const ByteRange& b) { return a.low < b.high && b.low < a.high; }

ByteRange range_of(const ByteView& view) {
  ByteRange range{view.first, Wide{view.first} + view.width};
  for (int i = 0; i < view.rank; ++i) {
    const Wide reach = Wide{view.stride[i]} * (view.extent[i] - 1);
    (reach < 0 ? range.low : range.high) += reach;
  }
  return range;
}

}  // namespace

bool may_share_memory(const ByteView& a, const ByteView& b) {
  if (!meet(range_of(a), range_of(b))) return false;
  // first_a + sum_a + byte_a == first_b + sum_b + byte_b
  Equation equation;
  equation.add_to_total(Wide{b.first} - a.first);
  equation.add(1, a.width - 1);
  equation.add(-1, b.width - 1);
  for (int i = 0; i < a.rank; ++i) equation.add(a.stride[i], a.extent[i] - 1);
  for (int i = 0; i < b.rank; ++i) equation.add(-b.stride[i], b.extent[i] - 1);
  return equation.may_have_solution();
}

bool may_overlap_itself(const ByteView& view) {
  // The usual case: sorted by stride, each dimension steps over all that the smaller ones reach.
  int order[8];
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
  // Else two elements coincide if sum(stride * difference) is less than a width for some differences that are
  // not all zero; the first that is not zero may be taken positive.
  for (int first = 0; first < view.rank; ++first) {
    if (view.extent[first] == 1) continue;
    Equation equation;
    equation.add_to_total(-Wide{view.stride[first]});
    equation.add(view.stride[first], view.extent[first] - 2);
    for (int i = first + 1; i < view.rank; ++i) {
      const int64_t most = view.extent[i] - 1;
      equation.add_to_total(Wide{view.stride[i]} * most);
      equation.add(view.stride[i], 2 * most);
    }
    equation.add_to_total(view.width - 1);
    equation.add(1, 2 * (view.width - 1));
    if (equation.may_have_solution()) return true;
  }
  return false;
}

}  // namespace mseloss
