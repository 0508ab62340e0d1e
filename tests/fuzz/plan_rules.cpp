// Which calls must fail: the rules of docs/operator.md, applied element by element and byte by byte.
#include "tests/fuzz/plan_case.h"

namespace fuzz {
namespace {

using mseloss::Code;

constexpr uint32_t bit(Code code) { return 1u << static_cast<int>(code); }

bool is_float(DType dtype) { return dtype <= DType::kFloat64; }
bool holds(DType wide, DType narrow) { return oracle::promoted_dtype(wide, narrow) == wide; }

uint32_t dtype_errors(Case& c) {
  const View* v = c.views;
  bool ok = is_float(v[kX].dtype) && is_float(v[kY].dtype);
  for (const int role : {kG, kGradOut, kLossOut})
    ok = ok && (!c.used[static_cast<size_t>(role)] || is_float(v[role].dtype));
  if (!ok) return bit(Code::kDType);
  const DType promoted = oracle::promoted_dtype(v[kX].dtype, v[kY].dtype);
  if (c.op == Operator::kGrad || c.op == Operator::kExplain)
    ok = v[kX].dtype == v[kY].dtype && v[kX].dtype == v[kG].dtype;
  if (c.used[kG]) ok = ok && holds(promoted, v[kG].dtype);
  if (c.weighted)
    ok = ok && (v[kW].dtype == DType::kBool || (is_float(v[kW].dtype) && holds(promoted, v[kW].dtype)));
  return ok ? 0 : bit(Code::kDType);
}

bool broadcasts_to(const Shape& shape, const Shape& to) {
  if (shape.size() > to.size()) return false;
  for (size_t k = 0; k < shape.size(); ++k) {
    if (shape[k] != 1 && shape[k] != to[to.size() - shape.size() + k]) return false;
  }
  return true;
}

// Whether g broadcasts with the inputs to the shape of the result.
bool g_is_elementwise(const Case& c) {
  return c.op == Operator::kGrad || c.op == Operator::kExplain || !c.sums();
}

uint32_t shape_errors(Case& c, Shape* all) {
  uint32_t errors = 0;
  c.each([&](int, View& view) {
    if (view.shape.size() > 8) errors |= bit(Code::kRank);
    if (!view.strides.empty() && !view.has_strides()) errors |= bit(Code::kShape);
    for (const int64_t extent : view.shape) errors |= extent < 0 ? bit(Code::kShape) : 0;
  });
  if (!broadcast_shape(c, all)) return errors | bit(Code::kShape);
  if (c.used[kGradOut] && c.views[kGradOut].shape != *all) errors |= bit(Code::kShape);
  if (!c.used[kLossOut]) {
    if (c.op == Operator::kPartialSum && c.used[kG] && c.views[kG].count() != 1) errors |= bit(Code::kShape);
    return errors;
  }
  const Shape& loss = c.views[kLossOut].shape;
  if (!c.sums()) return loss == *all ? errors : errors | bit(Code::kShape);
  if (!loss.empty()) {
    bool fits = loss.size() == all->size();
    for (size_t k = 0; fits && k < loss.size(); ++k) fits = loss[k] == 1 || loss[k] == (*all)[k];
    if (!fits) errors |= bit(Code::kShape);
  }
  if (c.used[kG]) {
    const Shape& g = c.views[kG].shape;
    const bool fits = loss.empty() ? std::all_of(g.begin(), g.end(), [](int64_t n) { return n == 1; })
                                   : broadcasts_to(g, loss);
    if (!fits) errors |= bit(Code::kShape);
  }
  return errors;
}

using Addresses = std::vector<intptr_t>;

Addresses addresses(const View& view, const Shape& all) {
  const int64_t n = oracle::count_of(all);
  Addresses result(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    result[static_cast<size_t>(i)] =
        reinterpret_cast<intptr_t>(view.data) +
        oracle::offset_of(view.shape, view.strides, all, i) * mseloss::size_of(view.dtype);
  return result;
}

struct Bytes {  // of one operand: where its elements begin, sorted
  Addresses sorted;
  int size;

  bool overlap_itself() const {
    for (size_t i = 1; i < sorted.size(); ++i)
      if (sorted[i] - sorted[i - 1] < size) return true;
    return false;
  }
  bool share(const Bytes& other) const {
    for (size_t i = 0, k = 0; i < sorted.size() && k < other.sorted.size();) {
      if (sorted[i] < other.sorted[k] + other.size && other.sorted[k] < sorted[i] + size) return true;
      ++(sorted[i] < other.sorted[k] ? i : k);
    }
    return false;
  }
};

uint32_t memory_errors(Case& c, const Shape& all) {
  uint32_t errors = 0;
  const bool empty = oracle::count_of(all) == 0;
  Bytes bytes[kRoles];
  c.each([&](int role, View& view) {
    const bool elements = view.count() != 0 && (!empty || (role == kLossOut && c.sums()));
    if (!elements) return;
    if (view.data == nullptr) errors |= bit(Code::kNullPointer);
    // Over its own shape: an element that is broadcast counts once.
    bytes[role] = {addresses(view, view.shape), mseloss::size_of(view.dtype)};
    std::sort(bytes[role].sorted.begin(), bytes[role].sorted.end());
    if (c.is_output(role) && bytes[role].overlap_itself()) errors |= bit(Code::kOverlap);
  });
  for (const int out : {kGradOut, kLossOut}) {
    if (!c.used[static_cast<size_t>(out)] || empty || errors != 0) continue;
    for (int other = 0; other < out; ++other) {
      if (!c.used[static_cast<size_t>(other)] || !bytes[out].share(bytes[other])) continue;
      const bool identical_allowed =
          c.op == Operator::kLossAndGrad ? out == kGradOut && c.sums() : out == kGradOut || !c.sums();
      const bool identical = c.views[out].dtype == c.views[other].dtype &&
                             addresses(c.views[out], all) == addresses(c.views[other], all);
      if (!identical_allowed || !identical) errors |= bit(Code::kOverlap);
    }
  }
  return errors;
}

}  // namespace

bool broadcast_shape(Case& c, Shape* all) {
  size_t rank = 0;
  const auto counts = [&](int role) { return role < kGradOut && (role != kG || g_is_elementwise(c)); };
  c.each([&](int role, View& view) {
    if (counts(role)) rank = std::max(rank, view.shape.size());
  });
  all->assign(rank, 1);
  bool fits = true;
  c.each([&](int role, View& view) {
    for (size_t k = 0; counts(role) && k < view.shape.size(); ++k) {
      int64_t& extent = (*all)[rank - view.shape.size() + k];
      fits = fits && (view.shape[k] == 1 || extent == 1 || extent == view.shape[k]);
      if (view.shape[k] != 1) extent = view.shape[k];
    }
  });
  return fits;
}

uint32_t expected_errors(Case& c) {
  Shape all;
  uint32_t errors = dtype_errors(c) | shape_errors(c, &all);
  if (c.reduction > Reduction::kSum) errors |= bit(Code::kReduction);
  return errors != 0 || c.wild ? errors : memory_errors(c, all);
}

}  // namespace fuzz
