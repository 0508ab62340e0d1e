// Results do not depend on the floating-point environment, the target or concurrent calls.
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <set>
#include <thread>

#include "tests/support/sums.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace {

using namespace cases;

TEST(Target, SupportedTargets_HoldWhatTheProcessorHas) {
  const auto names = targets();
  const std::set<std::string> set(names.begin(), names.end());
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(set.size(), names.size());
#if defined(__x86_64__) && !defined(MSELOSS_FEWER_TARGETS)
  EXPECT_EQ(set.count("AVX2") != 0, (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")));
  EXPECT_EQ(set.count("SSE4") != 0, __builtin_cpu_supports("sse4.2") != 0);
  const bool avx3 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  EXPECT_EQ(set.count("AVX3") != 0, avx3);
  EXPECT_EQ(set.count("AVX3_BF16") != 0, avx3 && __builtin_cpu_supports("avx512bf16"));
#endif
}

TEST(Target, NameOfAnother_IsForcedAndNullChoosesTheBestAgain) {
  const auto names = targets();
  for (const std::string& name : names) {
    ASSERT_TRUE(mseloss::set_target(name.c_str()).ok());
    EXPECT_EQ(name, mseloss::target());
  }
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
  EXPECT_EQ(names.front(), mseloss::target());
}

TEST(Target, UnknownName_IsRefusedAndChangesNothing) {
  const std::string before = mseloss::target();
  for (const char* name : {"AVX9", "", "avx", "AVX2 SSE4", " "}) {
    const Status status = mseloss::set_target(name);
    EXPECT_EQ(status.code(), mseloss::Code::kTarget) << name;
    const std::string message = status.message();
    EXPECT_NE(message.find("target"), std::string::npos) << message;
    EXPECT_NE(message.find(name), std::string::npos) << message;
    EXPECT_NE(message.find(targets().front()), std::string::npos) << message;
    EXPECT_EQ(before, mseloss::target());
  }
}

// The next test runs this one in a child process and reads its output.
TEST(Target, Child_PrintsWhatIsInUse) {
  std::printf("target=%s threads=%d\n", mseloss::target(), mseloss::max_threads());
  const Status status = mseloss::check_environment();
  std::printf("environment=%d %s\n", static_cast<int>(status.code()), status.message());
}

std::string output_of_child(const std::string& environment) {
  char self[4096] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return {};
  std::string output;
  FILE* child = popen(
      (environment + " '" + self + "' --gtest_filter=Target.Child_PrintsWhatIsInUse 2>&1").c_str(), "r");
  for (char line[512]; child && std::fgets(line, sizeof line, child);) output += line;
  if (child) pclose(child);
  return output;
}

TEST(Target, EnvironmentVariables_ForceTargetAndThreads) {
  for (const std::string& name : targets()) {
    const std::string output = output_of_child("MSELOSS_NUM_THREADS=3 MSELOSS_TARGET=" + name);
    EXPECT_NE(output.find("target=" + name + " threads=3\n"), std::string::npos) << output;
    EXPECT_NE(output.find("environment=0 \n"), std::string::npos) << output;
  }
}

TEST(Target, EnvironmentVariablesThatCannotBeUsed_AreReportedAndIgnored) {
  const std::string defaults = output_of_child("MSELOSS_TARGET= MSELOSS_NUM_THREADS=");
  const std::string used =
      defaults.substr(defaults.find("target="), defaults.find("environment=") - defaults.find("target="));
  EXPECT_NE(defaults.find("environment=0 \n"), std::string::npos) << defaults;
  const std::string code = "environment=" + std::to_string(static_cast<int>(mseloss::Code::kEnvironment));
  const auto expect = [&](const std::string& variables, const std::string& sentences) {
    const std::string output = output_of_child(variables);
    EXPECT_NE(output.find(used), std::string::npos) << output;
    EXPECT_NE(output.find(code + " " + sentences + "\n"), std::string::npos) << output;
  };
  const std::string target = "MSELOSS_TARGET: expected a target that this processor can run (" +
                             std::string(mseloss::supported_targets()) + "), got \"";
  const std::string threads = "MSELOSS_NUM_THREADS: expected a number from 1 to 1024, got \"";
  for (const std::string value : {"FOO", "avx2", " "}) {
    expect("MSELOSS_TARGET='" + value + "' MSELOSS_NUM_THREADS=", target + value + "\"");
  }
  for (const std::string value : {"abc", "-3", "0", "1e9", "1025", "4 threads", "99999999999", "0x4"}) {
    expect("MSELOSS_TARGET= MSELOSS_NUM_THREADS='" + value + "'", threads + value + "\"");
  }
  expect("MSELOSS_TARGET=FOO MSELOSS_NUM_THREADS=abc", target + "FOO\"; " + threads + "abc\"");
}

TEST(Environment, Names_AreThoseOfTheEnums) {
  EXPECT_STREQ(mseloss::name_of(DType::kFloat16), "float16");
  EXPECT_STREQ(mseloss::name_of(DType::kBFloat16), "bfloat16");
  EXPECT_STREQ(mseloss::name_of(Reduction::kNone), "none");
  for (DType dtype : kDTypes) EXPECT_EQ(mseloss::size_of(dtype), oracle::bytes_of(dtype));
  EXPECT_GE(mseloss::max_threads(), 1);
  EXPECT_NE(mseloss::version()[0], '\0');
}

// The bits of every result that compute() obtains for one case.
struct Outcome {
  oracle::Bits grad, square, fused;
  uint64_t sum = 0, mean = 0;
  double partial = 0;
  bool operator==(const Outcome&) const = default;
};

// Calls every operator under the given MXCSR (0: unchanged). Uses finite values only, because NaN payloads
// are unspecified.
Outcome compute(uint64_t seed, DType dtype, int threads, [[maybe_unused]] unsigned control = 0) {
  Random random(seed);
  const Shape shape{random.range(1, 70), random.range(1, 90)};
  Operand g(random, dtype, {}, Layout::kDense), x(random, dtype, shape, Layout::kAny);
  Operand y(random, dtype, shape, Layout::kTransposed);
  for (Operand* operand : {&g, &x, &y}) {
    operand->fill(random, Values::kUnit);
    for (int64_t i = 0; i < operand->count(); i += 3) {  // subnormal operands and results
      const auto format = oracle::format_of(dtype);
      const double tiny = std::ldexp(static_cast<double>(random.range(1, 100)), format.lowest_exponent);
      oracle::store(dtype, operand->at(i), oracle::encode(dtype, tiny));
    }
  }
  Operand grad(random, dtype, shape, Layout::kDense, true),
      square(random, dtype, shape, Layout::kDense, true);
  Operand fused(random, dtype, shape, Layout::kDense, true), sum(random, dtype, {}, Layout::kDense, true);
  Operand mean(random, dtype, {}, Layout::kDense, true);
  const Options options{threads};
#if defined(__SSE__)
  const unsigned normal = _mm_getcsr();
  if (control) _mm_setcsr(control);
#endif
  bool ok = mseloss::grad(g.view(), x.view(), y.view(), Reduction::kMean, grad.tensor(), options).ok();
  ok &= mseloss::loss(x.view(), y.view(), Reduction::kNone, square.tensor(), options).ok();
  ok &= mseloss::loss(x.view(), y.view(), Reduction::kSum, sum.tensor(), options).ok();
  ok &= mseloss::loss_and_grad(x.view(), y.view(), Reduction::kMean, g.view(), mean.tensor(), fused.tensor(),
                               options)
            .ok();
  PartialSum partial;
  double finished = 0;
  ok &= partial.add(x.view(), y.view(), PartialSum::Mode::kFast, options).ok();
  const bool decided = partial.finish(Reduction::kMean, DType::kFloat64, &finished);
#if defined(__SSE__)
  if (control) {
    ok &= (_mm_getcsr() & ~0x3fu) == (control & ~0x3fu);  // except the sticky exception flags
    _mm_setcsr(normal);
  }
#endif
  Outcome outcome;
  if (!ok) return outcome;
  for (int64_t i = 0; i < grad.count(); ++i) {
    outcome.grad.push_back(grad.bits(i));
    outcome.square.push_back(square.bits(i));
    outcome.fused.push_back(fused.bits(i));
  }
  outcome.sum = sum.bits(0);
  outcome.mean = mean.bits(0);
  outcome.partial = decided ? finished : -1;
  return outcome;
}

#if defined(__SSE__)
TEST(Environment, FlushToZeroRoundingModeAndUnmaskedTrapsOfTheHost_ChangeNothingAndAreKept) {
  const unsigned normal = _mm_getcsr();
  // Flush-to-zero with and without denormals-are-zero, the three other rounding modes, all exceptions
  // unmasked.
  const unsigned controls[] = {normal | 0x8040, normal | 0x8000, normal | 0x2000,
                               normal | 0x4000, normal | 0x6000, normal & ~0x1fbfu};
  for_each_target([&] {
    for (DType dtype : kDTypes)
      for (int threads : {1, 4})
        for (uint64_t seed = 1; seed <= 6; ++seed) {
          const Outcome expected = compute(seed, dtype, threads);
          ASSERT_FALSE(expected.grad.empty());
          for (unsigned control : controls)
            ASSERT_TRUE(compute(seed, dtype, threads, control) == expected)
                << std::hex << "MXCSR " << control << ", " << mseloss::name_of(dtype) << ", seed " << seed;
        }
  });
}
#endif

TEST(Environment, CallsFromManyThreadsAtOnce_GiveTheSameBitsAsAlone) {
  constexpr int kThreads = 8, kCalls = 40;
  std::vector<Outcome> expected;
  for (int i = 0; i < kCalls; ++i) expected.push_back(compute(100 + i, kDTypes[i % 4], 1));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kCalls; ++i) {
        const int which = (i + 5 * t) % kCalls;
        if (!(compute(100 + which, kDTypes[which % 4], t % 4) == expected[static_cast<size_t>(which)]))
          ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Environment, Explain_NamesTheLayoutOrTheError) {
  const float x[12] = {}, one = 1;
  float out[12];
  const int64_t shape[] = {3, 4}, transposed[] = {1, 3}, wrong[] = {5};
  const auto dense = mseloss::explain(&one, {x, shape}, {x, shape}, Reduction::kMean, {out, shape});
  const auto transposed_target =
      mseloss::explain(&one, {x, shape}, {x, shape, transposed}, Reduction::kMean, {out, shape});
  EXPECT_NE(dense.find("dense"), std::string::npos) << dense;
  EXPECT_NE(transposed_target.find("target"), std::string::npos) << transposed_target;
  EXPECT_NE(dense, transposed_target);
  // A single element of another dtype is packed into a tile of one element.
  uint16_t half;
  const auto single = mseloss::explain(&one, &one, &one, Reduction::kMean, {&half, mseloss::DType::kFloat16});
  EXPECT_NE(single.find("grad_input packed"), std::string::npos) << single;
  const auto error = mseloss::explain(&one, {x, shape}, {x, wrong}, Reduction::kMean, {out, shape});
  EXPECT_NE(error.find("target: expected"), std::string::npos) << error;
}

}  // namespace
