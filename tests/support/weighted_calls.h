// Calls of loss() and loss_and_grad() with weights or over some axes, compared with the reference.
#pragma once

#include <sstream>

#include "tests/support/parts.h"

namespace weighted {

// The shape of a loss over random axes; 0-dimensional for all of them, sometimes.
inline Shape reduced(Random& random, Shape all) {
  if (random.chance(35)) return {};
  for (int64_t& extent : all)
    if (random.chance(50)) extent = 1;
  return all;
}

// narrowed(), of the rank of `all` at most.
inline Shape narrowed_to(Random& random, const Shape& all) {
  Shape shape = narrowed(random, all);
  if (shape.size() > all.size()) shape.resize(all.size());
  return shape;
}

inline std::string describe(const ConstTensor& x, const ConstTensor& y, const ConstTensor* w,
                            const ConstTensor& loss, Reduction reduction, const Options& options) {
  std::ostringstream what;
  what << "\n  " << mseloss::name_of(reduction) << ", target " << mseloss::target() << ", threads "
       << options.threads << ", exact " << options.exact;
  print_to(what, "input", x);
  print_to(what, "target", y);
  if (w != nullptr) print_to(what, "weight", *w);
  print_to(what, "loss", loss);
  return what.str();
}

// Calls loss() and loss_and_grad() and compares both with the reference. `w` may be null, `g` too (no
// gradient).
inline testing::AssertionResult is_right(Random& random, Operand& x, Operand& y, Operand* w, Operand* g,
                                         Reduction reduction, Operand& loss, Operand* grad) {
  Options options = random_options(random);
  options.exact = random.chance(25);
  const ConstTensor weight = w == nullptr ? ConstTensor() : w->view();
  const ConstTensor* weight_or_null = w == nullptr ? nullptr : &weight;
  const ConstTensor g_view = g == nullptr ? ConstTensor() : g->view();
  const Reference expected =
      reference(x.view(), y.view(), weight_or_null, g == nullptr ? nullptr : &g_view, reduction, loss.shape(),
                loss.dtype(), grad == nullptr ? DType::kFloat32 : grad->dtype());
  const auto what = describe(x.view(), y.view(), weight_or_null, loss.view(), reduction, options);
  const Bytes before = loss.storage();
  Status status;
  if (g == nullptr) {
    status = w == nullptr ? mseloss::loss(x.view(), y.view(), reduction, loss.tensor(), options)
                          : mseloss::loss(x.view(), y.view(), weight, reduction, loss.tensor(), options);
  } else {
    const Bytes grad_before = grad->storage();
    status = w == nullptr ? mseloss::loss_and_grad(x.view(), y.view(), reduction, g->view(), loss.tensor(),
                                                   grad->tensor(), options)
                          : mseloss::loss_and_grad(x.view(), y.view(), weight, reduction, g->view(),
                                                   loss.tensor(), grad->tensor(), options);
    if (!status.ok()) return testing::AssertionFailure() << status.message() << what;
    if (const auto result = holds(*grad, expected.grad, grad_before); !result)
      return testing::AssertionFailure() << "gradient: " << result.message() << what;
  }
  if (!status.ok()) return testing::AssertionFailure() << status.message() << what;
  if (const auto result = holds(loss, expected.loss, before); !result)
    return testing::AssertionFailure() << "loss: " << result.message() << what;
  return testing::AssertionSuccess();
}

inline void random_case(Random& random, bool weights, bool slices) {
  const DType x_dtype = random.pick(kDTypes), y_dtype = random.chance(75) ? x_dtype : random.pick(kDTypes);
  const DType promoted = oracle::promoted_dtype(x_dtype, y_dtype);
  const Shape all = random_shape(random, random.chance(3) ? 20000 : 300);
  Operand x(random, x_dtype, narrowed(random, all), random.pick(kLayouts));
  Operand y(random, y_dtype, narrowed(random, all), random.pick(kLayouts));
  const Values values = random.pick(kValues);
  x.fill(random, values);
  y.fill(random, values);
  const Weights kind = random.pick(kWeights);
  Operand w(random, weight_dtype(random, promoted, kind), weights ? narrowed(random, all) : Shape(),
            random.pick(kLayouts));
  if (weights) fill_weights(random, w, kind);
  Shape broadcast = oracle::broadcast({x.shape(), y.shape()});
  if (weights) broadcast = oracle::broadcast({broadcast, w.shape()});
  const Reduction reduction =
      slices ? random.pick({Reduction::kMean, Reduction::kSum}) : random.pick(kReductions);
  const Shape loss_shape = reduction == Reduction::kNone ? broadcast
                           : slices                      ? reduced(random, broadcast)
                                                         : Shape();
  Operand loss(random, random.pick(kDTypes), loss_shape, random.pick(kLayouts), true);
  if (random.chance(50)) {
    ASSERT_TRUE(is_right(random, x, y, weights ? &w : nullptr, nullptr, reduction, loss, nullptr));
    return;
  }
  DType g_dtype = random.pick(kDTypes);
  if (oracle::promoted_dtype(g_dtype, promoted) != promoted) g_dtype = promoted;
  const Shape g_shape = reduction == Reduction::kNone ? narrowed_to(random, broadcast)
                        : loss_shape.empty()          ? Shape(static_cast<size_t>(random.range(0, 2)), 1)
                                                      : narrowed_to(random, loss_shape);
  Operand g(random, g_dtype, g_shape, random.pick(kLayouts));
  g.fill(random, random.pick(kValues));
  Operand grad(random, random.pick(kDTypes), broadcast, random.pick(kLayouts), true);
  ASSERT_TRUE(is_right(random, x, y, weights ? &w : nullptr, &g, reduction, loss, &grad));
}

}  // namespace weighted
