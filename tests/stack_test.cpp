// How much of its stack a call uses on the calling thread: documented in docs/operator.md, for callers with
// small stacks.
#include <gtest/gtest.h>

#include <cstdio>

#include "mseloss/mseloss.h"
#include "tests/support/cases.h"
#include "tests/support/stack.h"

namespace {

using namespace cases;

TEST(Stack, EveryCall_UsesAtMostTheDocumentedBytes) {
  if (!stack::kMeasured) GTEST_SKIP() << "measured in optimised builds without sanitizers";
  Random random(17);
  size_t most = 0;
  for (const std::string& target : targets()) {
    ASSERT_TRUE(mseloss::set_target(target.c_str()).ok());
    for (const DType dtype : kDTypes) {
      for (const Layout layout : kLayouts) {
        for (const Shape& shape : {Shape{300, 200}, Shape{37, 5, 41}}) {
          Operand g(random, dtype, shape, Layout::kDense), x(random, dtype, shape, layout),
              y(random, dtype, shape, Layout::kTransposed), out(random, dtype, shape, Layout::kDense, true),
              transposed(random, dtype, shape, Layout::kTransposed, true);
          for (Operand* each : {&g, &x, &y}) each->fill(random, Values::kUnit);
          double loss[4];
          const Tensor sum(loss);
          const auto measure = [&](const char* name, auto call) {
            const size_t used = stack::used_by(call);
            if (used > most) {
              most = used;
              std::printf("[  STACK   ] %6zu bytes: %s of %s, layout %d, %s\n", used, name,
                          mseloss::name_of(dtype), static_cast<int>(layout), target.c_str());
            }
            EXPECT_LE(used, stack::kLimit) << name << " of " << mseloss::name_of(dtype) << ", layout "
                                           << static_cast<int>(layout) << ", " << target;
          };
          for (const int threads : {1, 4}) {
            const Options options{threads};
            measure("grad", [&] {
              EXPECT_TRUE(
                  mseloss::grad(g.view(), x.view(), y.view(), Reduction::kMean, out.tensor(), options).ok());
            });
            measure("transposed grad", [&] {
              EXPECT_TRUE(
                  mseloss::grad(g.view(), x.view(), y.view(), Reduction::kMean, transposed.tensor(), options)
                      .ok());
            });
            measure("elementwise loss", [&] {
              EXPECT_TRUE(mseloss::loss(x.view(), y.view(), Reduction::kNone, out.tensor(), options).ok());
            });
            measure("loss", [&] {
              EXPECT_TRUE(mseloss::loss(x.view(), y.view(), Reduction::kMean, sum, options).ok());
            });
            measure("exact loss", [&] {
              Options exact = options;
              exact.exact = true;
              EXPECT_TRUE(mseloss::loss(x.view(), y.view(), Reduction::kSum, sum, exact).ok());
            });
          }
        }
      }
    }
  }
  EXPECT_TRUE(mseloss::set_target(nullptr).ok());
  std::printf("[  STACK   ] %6zu bytes at most\n", most);
}

}  // namespace
