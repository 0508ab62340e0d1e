// Options::interrupt: a request ends a call early; without one it changes nothing. The operands are a few
// values with strides of 0, so that calls of any length need no memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "mseloss/mseloss.h"
#include "tests/support/cases.h"

namespace {

using mseloss::Code;
using mseloss::ConstTensor;
using mseloss::Interrupt;
using mseloss::Options;
using mseloss::PartialSum;
using mseloss::Reduction;
using mseloss::Status;

using Clock = std::chrono::steady_clock;
using Shape = std::vector<int64_t>;

struct Asked {
  int times = 0;
  bool answer = false;
  Clock::time_point last{};
};

Interrupt interrupt_of(Asked* asked) {
  return {[](void* context) {
            auto* asked = static_cast<Asked*>(context);
            ++asked->times;
            asked->last = Clock::now();
            return asked->answer;
          },
          asked};
}

struct Call {
  std::string name;
  Status (*run)(const Options& options);
};

const float kValues[] = {1, 2, 3, 4, 5, 6, 7, 8};

// The loss of 2^45 elements, hours of work; `inner` is the input's stride.
template <int64_t kInner>
Status long_loss(const Options& options) {
  const Shape shape{int64_t{1} << 42, 8}, strides{0, kInner};
  float out;
  return mseloss::loss({kValues, shape, strides}, kValues, Reduction::kMean, &out, options);
}

Status long_exact_loss(Options options) {
  options.exact = true;
  return long_loss<1>(options);
}

Status long_weighted_loss(const Options& options) {
  const Shape shape{int64_t{1} << 42, 8}, strides{0, 1};
  float out;
  const ConstTensor x{kValues, shape, strides};
  return mseloss::loss(x, kValues, x, Reduction::kSum, &out, options);
}

// Two slices of 2^42 elements each, the smallest unit of work without an interrupt.
Status long_slices(const Options& options) {
  const Shape shape{int64_t{1} << 42, 2}, strides{0, 1}, out_shape{1, 2};
  float out[2];
  return mseloss::loss({kValues, shape, strides}, kValues, Reduction::kMean, {out, out_shape}, options);
}

Status long_partial_sum(const Options& options) {
  const Shape shape{int64_t{1} << 42, 8}, strides{0, 1};
  PartialSum sum;
  const Status status = sum.add({kValues, shape, strides}, kValues, PartialSum::Mode::kFast, options);
  EXPECT_EQ(sum.count(), 0U);
  return status;
}

class Interrupts : public testing::TestWithParam<Call> {};

TEST_P(Interrupts, Requested_EndTheCallSoon) {
  for (const int threads : {1, 2, 3}) {
    Asked asked{.answer = true};
    const Interrupt interrupt = interrupt_of(&asked);
    Options options;
    options.threads = threads;
    options.interrupt = &interrupt;
    const Status status = GetParam().run(options);
    const auto late = std::chrono::duration<double>(Clock::now() - asked.last);
    EXPECT_EQ(status.code(), Code::kInterrupted) << status.message();
    EXPECT_EQ(asked.times, 1);
    EXPECT_LT(late.count(), 1.0);  // about 2 ms on an idle machine without sanitizers
    RecordProperty("ms_after_request_" + std::to_string(threads), std::to_string(late.count() * 1e3));
  }
}

INSTANTIATE_TEST_SUITE_P(Calls, Interrupts,
                         testing::Values(Call{"Dense", &long_loss<0>}, Call{"Tiles", &long_loss<1>},
                                         Call{"Exact", [](const Options& o) { return long_exact_loss(o); }},
                                         Call{"Weighted", &long_weighted_loss}, Call{"Slices", &long_slices},
                                         Call{"PartialSum", &long_partial_sum}),
                         [](const auto& info) { return info.param.name; });

// The same bits with a caller that is asked and declines, for any layout.
TEST(Interrupt, NotRequested_ChangesNoBit) {
  cases::Random random(71);
  for (const int64_t rows : {1, 3, 1000, 3001}) {
    for (const bool transposed : {false, true}) {
      const int64_t columns = 3000;
      const auto count = static_cast<size_t>(rows * columns);
      std::vector<float> x(count), y(count), expected(count), out(count);
      for (float& v : x) v = static_cast<float>(4 * random.unit() - 2);
      for (float& v : y) v = static_cast<float>(4 * random.unit() - 2);
      const Shape shape{rows, columns}, dense{columns, 1}, turned{1, rows};
      const ConstTensor a{x.data(), shape, transposed ? turned : dense}, b{y.data(), shape, dense};
      Asked asked;
      const Interrupt interrupt = interrupt_of(&asked);
      Options options;
      options.interrupt = &interrupt;
      const float g = 3;
      ASSERT_TRUE(mseloss::grad(&g, a, b, Reduction::kMean, {expected.data(), shape}).ok());
      ASSERT_TRUE(mseloss::grad(&g, a, b, Reduction::kMean, {out.data(), shape}, options).ok());
      EXPECT_EQ(out, expected);
      float plain, asking;
      ASSERT_TRUE(mseloss::loss(a, b, Reduction::kMean, &plain).ok());
      ASSERT_TRUE(mseloss::loss(a, b, Reduction::kMean, &asking, options).ok());
      EXPECT_EQ(plain, asking);
    }
  }
}

}  // namespace
