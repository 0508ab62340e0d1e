// The first call of a process, and of a thread, with each allocation and each thread start failing in turn,
// alone or with all later ones. The call returns kOutOfMemory or the right result, nothing aborts or hangs,
// and the next call works. Each case runs in a process of its own, which this program starts.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "mseloss/mseloss.h"
#include "tests/support/injection.h"

namespace {

using mseloss::Code;
using mseloss::Reduction;
using mseloss::Status;
using Mode = mseloss::PartialSum::Mode;

constexpr int kNoFailure = 0, kFailure = 3;  // exit codes of a case that went well

// Static memory: nothing allocates before the call.
constexpr int64_t kSide = 600, kCount = kSide * kSide;
alignas(64) float x[kCount], y[kCount], out[kCount];
float loss;
const int64_t kDense[] = {kCount}, kSquare[] = {kSide, kSide}, kTransposed[] = {1, kSide};
const float g = 1;

struct Operation {
  const char* name;
  Status (*call)();
  bool (*is_right)();
  void (*clear)();
  bool (*is_untouched)();
};

void clear_out() { std::memset(out, 0, sizeof(out)); }
bool out_is_zero() {
  for (const float each : out) {
    if (each != 0) return false;
  }
  return true;
}
void clear_loss() { loss = -1; }
bool loss_is_clear() { return loss == -1; }
bool grad_is_right() { return out[0] == 4 && out[kCount / 2] == 4 && out[kCount - 1] == 4; }
bool sum_is_right() { return loss == 4 * static_cast<float>(kCount); }

const Operation kOperations[] = {
    {"dense_gradient",
     [] {
       return mseloss::grad(&g, {x, kDense}, {y, kDense}, Reduction::kSum, {out, kDense});
     },
     grad_is_right, clear_out, out_is_zero},
    {"transposed_gradient",
     [] {
       return mseloss::grad(&g, {x, kSquare}, {y, kSquare, kTransposed}, Reduction::kSum, {out, kSquare});
     },
     grad_is_right, clear_out, out_is_zero},
    {"sum",
     [] {
       return mseloss::loss({x, kDense}, {y, kDense}, Reduction::kSum, &loss);
     },
     sum_is_right, clear_loss, loss_is_clear},
    {"exact_sum",
     [] {
       return mseloss::loss({x, kDense}, {y, kDense}, Reduction::kSum, &loss, {.exact = true});
     },
     sum_is_right, clear_loss, loss_is_clear},
    {"weighted_mean",
     [] {
       // Every weight is 3, and the mean 4; as a sum it would be 12 for each element.
       const Status status =
           mseloss::loss({x, kDense}, {y, kDense}, mseloss::ConstTensor(x, kDense), Reduction::kMean, &loss);
       loss *= status.ok() ? static_cast<float>(kCount) : 1;
       return status;
     },
     sum_is_right, clear_loss, loss_is_clear},
    {"sums_of_columns",
     [] {
       static const int64_t columns[] = {1, kSide};
       const Status status =
           mseloss::loss({x, kSquare}, {y, kSquare, kTransposed}, Reduction::kSum, {out, columns});
       if (status.ok() && (out[0] != 4 * kSide || out[kSide - 1] != 4 * kSide)) return status;
       if (status.ok()) out[0] = out[kCount / 2] = out[kCount - 1] = 4;
       return status;
     },
     grad_is_right, clear_out, out_is_zero},
    {"loss_and_gradient",
     [] {
       const Status status =
           mseloss::loss_and_grad({x, kDense}, {y, kDense}, Reduction::kSum, &g, {&loss}, {out, kDense});
       // After a failure the gradient is unspecified, the loss is not.
       return status;
     },
     [] { return sum_is_right() && grad_is_right(); }, clear_loss, loss_is_clear},
    {"partial_sum",
     [] {
       mseloss::PartialSum sum;
       Status status = sum.add({x, kDense}, {y, kDense}, mseloss::ConstTensor(y, kDense), Mode::kExact);
       if (status.ok()) status = sum.add_divisor({x, kDense}, {y, kDense}, nullptr, Mode::kFast);
       if (status.ok() && !sum.finish(Reduction::kSum, mseloss::DType::kFloat32, &loss)) loss = -2;
       return status;
     },
     sum_is_right, clear_loss, loss_is_clear},
    {"partial_sum_with_gradient",
     [] {
       mseloss::PartialSum sum;
       return sum.add_with_grad({x, kSquare}, {y, kSquare, kTransposed}, nullptr, 2, &g, {out, kSquare});
     },
     grad_is_right, clear_out, [] { return true; }},
    {"small_transposed_gradient",
     [] {
       static const int64_t shape[] = {40, 40}, strides[] = {1, 40};
       const Status status =
           mseloss::grad(&g, {x, shape}, {y, shape, strides}, Reduction::kSum, {out, shape}, {.threads = 1});
       out[kCount / 2] = out[kCount - 1] = out[0];
       return status;
     },
     grad_is_right, clear_out, out_is_zero},
};

#define CASE_REQUIRE(condition)                                    \
  do {                                                             \
    if (!(condition)) {                                            \
      std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      std::_Exit(1);                                               \
    }                                                              \
  } while (0)

// One call with event k failing, then calls without a failure. Returns the exit code.
int check(const Operation& operation, int64_t k, bool and_all_later) {
  operation.clear();
  Status status;
  bool happened;
  {
    const injection::Failure failure(k, and_all_later);
    status = operation.call();
    happened = failure.happened();
  }
  if (status.ok()) {
    CASE_REQUIRE(operation.is_right());
  } else {
    CASE_REQUIRE(happened);
    CASE_REQUIRE(status.code() == Code::kOutOfMemory);
    CASE_REQUIRE(operation.is_untouched());
  }
  for (int round = 0; round < 3; ++round) {
    operation.clear();
    CASE_REQUIRE(operation.call().ok());
    CASE_REQUIRE(operation.is_right());
  }
  return happened ? kFailure : kNoFailure;
}

// argv: --case OPERATION first|thread K once|onwards
int run_case(char** argv) {
  alarm(20);  // a hang ends with a signal
  for (int64_t i = 0; i < kCount; ++i) x[i] = 3, y[i] = 1;
  const Operation* operation = kOperations;
  while (std::strcmp(operation->name, argv[2]) != 0) ++operation;
  const int64_t k = std::atoll(argv[4]);
  const bool onwards = std::strcmp(argv[5], "onwards") == 0;
  if (std::strcmp(argv[3], "first") == 0) return check(*operation, k, onwards);
  // The process has been here before; the calling thread has not.
  CASE_REQUIRE(operation->call().ok());
  int code = -1;
  std::thread([&] { code = check(*operation, k, onwards); }).join();
  return code;
}

class FirstUse : public testing::TestWithParam<std::tuple<int, std::string, std::string>> {};
INSTANTIATE_TEST_SUITE_P(Calls, FirstUse,
                         testing::Combine(testing::Range(0, static_cast<int>(std::size(kOperations))),
                                          testing::Values("first", "thread"),
                                          testing::Values("once", "onwards")),
                         [](const auto& info) {
                           return std::string(kOperations[std::get<0>(info.param)].name) + "_" +
                                  std::get<1>(info.param) + "_" + std::get<2>(info.param);
                         });

TEST_P(FirstUse, WithoutMemory_IsACodeOrRightAndTheNextCallWorks) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer replaces the allocation functions itself";
#endif
  const auto& [operation, who, which] = GetParam();
  setenv("MSELOSS_NUM_THREADS", "4", 1);
  constexpr int64_t kMost = 2000;
  int64_t k = 0;
  for (; k < kMost; ++k) {
    const int code = injection::run_this_program(
        {"--case", kOperations[operation].name, who.c_str(), std::to_string(k).c_str(), which.c_str()});
    if (code == kNoFailure) break;
    ASSERT_EQ(code, kFailure) << "event " << k;
  }
  EXPECT_LT(k, kMost);
  std::printf("[  EVENTS  ] %lld allocations and thread starts\n", static_cast<long long>(k));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 6 && std::strcmp(argv[1], "--case") == 0) return run_case(argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
