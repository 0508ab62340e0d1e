// How much of its stack a call uses on the calling thread: documented in docs/operator.md, for callers with
// small stacks.
#include <gtest/gtest.h>
#include <pthread.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "mseloss/mseloss.h"
#include "tests/support/cases.h"

namespace {

using namespace cases;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
constexpr bool kMeasured = false;  // frames of other sizes
#else
constexpr bool kMeasured = true;
#endif

constexpr size_t kLimit = 32 << 10;   // bytes, as documented
constexpr size_t kStack = 256 << 10;  // of the thread that measures
constexpr unsigned char kPaint = 0xA5;

struct Measurement {
  void (*call)(void*);
  void* context;
  const unsigned char* top = nullptr;
};

// Bytes of stack below the caller's frame that call() touches.
template <class Call>
size_t stack_of(Call call) {
  std::vector<unsigned char> stack(kStack + 4096, kPaint);
  auto* base =
      reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(stack.data()) + 4095) / 4096 * 4096);
  Measurement measurement{[](void* context) { (*static_cast<Call*>(context))(); }, &call};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  EXPECT_EQ(pthread_attr_setstack(&attributes, base, kStack), 0);
  pthread_t thread;
  EXPECT_EQ(pthread_create(
                &thread, &attributes,
                [](void* argument) -> void* {
                  auto& m = *static_cast<Measurement*>(argument);
                  unsigned char here = 0;
                  m.top = &here;
                  m.call(m.context);
                  return nullptr;
                },
                &measurement),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  const unsigned char* lowest = base;
  while (*lowest == kPaint) ++lowest;
  return static_cast<size_t>(measurement.top - lowest);
}

TEST(Stack, EveryCall_UsesAtMostTheDocumentedBytes) {
  if (!kMeasured) GTEST_SKIP() << "measured in optimised builds without sanitizers";
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
            const size_t used = stack_of(call);
            if (used > most) {
              most = used;
              std::printf("[  STACK   ] %6zu bytes: %s of %s, layout %d, %s\n", used, name,
                          mseloss::name_of(dtype), static_cast<int>(layout), target.c_str());
            }
            EXPECT_LE(used, kLimit) << name << " of " << mseloss::name_of(dtype) << ", layout "
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
