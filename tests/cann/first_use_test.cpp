// A program's first use of acl and aclnn with each allocation and each thread start failing in turn, alone or
// with all later ones. Every call returns a code, nothing aborts or hangs, and the same calls work
// afterwards. Each case runs in a process of its own, which this program starts.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "acl/acl.h"
#include "aclnnop/aclnn_mse_loss.h"
#include "aclnnop/aclnn_mse_loss_backward.h"
#include "aclnnop/aclnn_mse_loss_out.h"
#include "opdev/op_errno.h"
#include "tests/support/injection.h"

namespace {

constexpr int kNoFailure = 0, kFailure = 3;  // exit codes of a case that went well

constexpr int64_t kSide = 600, kCount = kSide * kSide;
float x[kCount], y[kCount], out[kCount], loss, columns[kSide];

#define CASE_REQUIRE(condition)                                                              \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      std::fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, aclGetRecentErrMsg()); \
      std::_Exit(1);                                                                         \
    }                                                                                        \
  } while (0)

bool is_out_of_memory(int code) {
  return code == ACL_ERROR_RT_MEMORY_ALLOCATION || code == ACLNN_ERR_RUNTIME_ERROR ||
         code == ACLNN_ERR_INNER || code == ACLNN_ERR_INNER_CREATE_EXECUTOR;
}

// The calls of a small program. Each returns whether it succeeded; failures must be for lack of memory.
struct Program {
  aclrtStream stream = nullptr;
  aclTensor *tx = nullptr, *ty = nullptr, *tout = nullptr, *tloss = nullptr, *tcolumns = nullptr;
  bool device = false;

  bool ok(int code) {
    CASE_REQUIRE(code == 0 || is_out_of_memory(code));
    return code == 0;
  }
  static aclTensor* tensor(float* data, int rank, const int64_t* strides = nullptr) {
    static const int64_t shape[] = {kSide, kSide}, storage[] = {kCount};
    return aclCreateTensor(shape + 2 - rank, static_cast<uint64_t>(rank), ACL_FLOAT, strides, 0,
                           ACL_FORMAT_ND, storage, 1, data);
  }
  bool begin() {
    static const int64_t transposed[] = {1, kSide};
    if (!(device = ok(aclrtSetDevice(0)))) return false;
    if (!ok(aclrtCreateStream(&stream))) return false;
    tx = tensor(x, 2), ty = tensor(y, 2, transposed), tout = tensor(out, 2), tloss = tensor(&loss, 0);
    tcolumns = tensor(columns, 1);
    return tx != nullptr && ty != nullptr && tout != nullptr && tloss != nullptr && tcolumns != nullptr;
  }
  bool finish(decltype(aclnnMseLoss)* phase_two, aclOpExecutor* executor) {
    const bool queued = ok(phase_two(nullptr, 0, executor, stream));
    return ok(aclrtSynchronizeStream(stream)) && queued;
  }
  bool run() {
    uint64_t workspace = 0;
    aclOpExecutor* executor = nullptr;
    out[0] = out[kCount - 1] = loss = columns[kSide - 1] = -1;
    if (!ok(aclnnMseLossBackwardGetWorkspaceSize(tx, tx, ty, 2, tout, &workspace, &executor))) return false;
    if (!finish(aclnnMseLossBackward, executor)) return false;
    CASE_REQUIRE(out[0] == 12 && out[kCount - 1] == 12);
    if (!ok(aclnnMseLossGetWorkspaceSize(tx, ty, 2, tloss, &workspace, &executor))) return false;
    if (!finish(aclnnMseLoss, executor)) return false;
    CASE_REQUIRE(loss == 4 * static_cast<float>(kCount));
    if (!ok(aclnnMseLossOutGetWorkspaceSize(tx, ty, 1, tcolumns, &workspace, &executor))) return false;
    if (!finish(aclnnMseLossOut, executor)) return false;
    CASE_REQUIRE(columns[kSide - 1] == 4);
    return true;
  }
  void end() {
    for (const aclTensor* each : {tx, ty, tout, tloss, tcolumns})
      CASE_REQUIRE(aclDestroyTensor(each) == ACLNN_SUCCESS);
    if (stream != nullptr) CASE_REQUIRE(aclrtDestroyStream(stream) == ACL_SUCCESS);
    if (device) CASE_REQUIRE(aclrtResetDevice(0) == ACL_SUCCESS);
  }
};

bool use() {
  Program program;
  const bool whole = program.begin() && program.run();
  program.end();
  return whole;
}

int check(int64_t k, bool and_all_later) {
  bool whole, happened;
  {
    const injection::Failure failure(k, and_all_later);
    whole = use();
    happened = failure.happened();
  }
  CASE_REQUIRE(whole || happened);
  CASE_REQUIRE(use() && use());
  return happened ? kFailure : kNoFailure;
}

// argv: --case first|thread K once|onwards
int run_case(char** argv) {
  alarm(20);  // a hang ends with a signal
  for (int64_t i = 0; i < kCount; ++i) x[i] = 3, y[i] = 1;
  const int64_t k = std::atoll(argv[3]);
  const bool onwards = std::strcmp(argv[4], "onwards") == 0;
  CASE_REQUIRE(aclInit(nullptr) == ACL_SUCCESS);
  int code = -1;
  if (std::strcmp(argv[2], "first") == 0) {
    code = check(k, onwards);
  } else {
    CASE_REQUIRE(use());
    std::thread([&] { code = check(k, onwards); }).join();
  }
  CASE_REQUIRE(aclFinalize() == ACL_SUCCESS);
  return code;
}

class AclnnFirstUse : public testing::TestWithParam<std::tuple<std::string, std::string>> {};
INSTANTIATE_TEST_SUITE_P(Calls, AclnnFirstUse,
                         testing::Combine(testing::Values("first", "thread"),
                                          testing::Values("once", "onwards")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

TEST_P(AclnnFirstUse, WithoutMemory_GivesCodesAndWorksAfterwards) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer replaces the allocation functions itself";
#endif
  const auto& [who, which] = GetParam();
  setenv("MSELOSS_NUM_THREADS", "4", 1);
  constexpr int64_t kMost = 2000;
  int64_t k = 0;
  for (; k < kMost; ++k) {
    const int code =
        injection::run_this_program({"--case", who.c_str(), std::to_string(k).c_str(), which.c_str()});
    if (code == kNoFailure) break;
    ASSERT_EQ(code, kFailure) << "event " << k;
  }
  EXPECT_GT(k, 5);
  EXPECT_LT(k, kMost);
  std::printf("[  EVENTS  ] %lld allocations and thread starts\n", static_cast<long long>(k));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::strcmp(argv[1], "--case") == 0) return run_case(argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
