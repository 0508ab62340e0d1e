// Executor lifetime: consumed, repeatable, given new addresses, and detected as invalid after its end.
#include <thread>

#include "tests/cann/session.h"

namespace {

using cann::expect_message;
using cann::Tensor;

class Executor : public cann::Test {
 protected:
  float g[4] = {1, 1, 1, 1}, x[4] = {1, 2, 3, 4}, y[4] = {1, 1, 1, 1}, out[4] = {-1, -1, -1, -1};
  float x2[4] = {2, 2, 2, 2}, out2[4] = {-1, -1, -1, -1};
  Tensor tg{g, {4}}, tx{x, {4}}, ty{y, {4}}, tout{out, {4}};
  uint64_t workspace = 0;

  aclOpExecutor* plan() {
    aclOpExecutor* executor = nullptr;
    EXPECT_EQ(aclnnMseLossBackwardGetWorkspaceSize(tg, tx, ty, 2, tout, &workspace, &executor), ACLNN_SUCCESS)
        << aclGetRecentErrMsg();
    return executor;
  }
  aclnnStatus run(aclOpExecutor* executor) { return aclnnMseLossBackward(nullptr, 0, executor, stream); }
  void expect(const float* result, float first, float last) {
    EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
    EXPECT_EQ(result[0], first);
    EXPECT_EQ(result[3], last);
  }
  void expect_invalid(aclOpExecutor* executor) {
    EXPECT_EQ(run(executor), ACLNN_ERR_PARAM_INVALID);
    expect_message("aclnnMseLossBackward", "executor", "0x");
    EXPECT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_ERR_PARAM_INVALID);
    EXPECT_EQ(aclSetInputTensorAddr(executor, 0, tg, g), ACLNN_ERR_PARAM_INVALID);
    EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_ERR_PARAM_INVALID);
  }
};

TEST_F(Executor, RunOnce_IsConsumed) {
  aclOpExecutor* executor = plan();
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out, 0, 6);
  expect_invalid(executor);
}

TEST_F(Executor, ConsumedThenManyMade_StaysConsumed) {
  aclOpExecutor* stale = plan();
  EXPECT_EQ(run(stale), ACLNN_SUCCESS);
  for (int i = 0; i < 1000; ++i) {
    aclOpExecutor* executor = plan();
    EXPECT_NE(executor, stale);
    EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  }
  expect_invalid(stale);
}

TEST_F(Executor, RunFails_IsConsumedToo) {
  aclOpExecutor* executor = plan();
  EXPECT_EQ(aclnnMseLossBackward(nullptr, 0, executor, reinterpret_cast<aclrtStream>(x)),
            ACLNN_ERR_RUNTIME_ERROR);
  expect_message("aclnnMseLossBackward", "stream", "0x");
  expect_invalid(executor);
}

TEST_F(Executor, OfAnotherOperator_IsRefusedAndConsumed) {
  aclOpExecutor* executor = plan();
  EXPECT_EQ(aclnnMseLoss(nullptr, 0, executor, stream), ACLNN_ERR_PARAM_INVALID);
  expect_message("aclnnMseLoss", "executor", "aclnnMseLossBackward");
  expect_invalid(executor);
}

TEST_F(Executor, NullWorkspaceWithASize_Is161001AndConsumes) {
  aclOpExecutor* executor = plan();
  EXPECT_EQ(aclnnMseLossBackward(nullptr, 8, executor, stream), ACLNN_ERR_PARAM_NULLPTR);
  expect_message("aclnnMseLossBackward", "workspace", "8 bytes");
  expect_invalid(executor);
  executor = plan();
  EXPECT_EQ(aclnnMseLossBackward(x2, sizeof(x2), executor, stream), ACLNN_SUCCESS);  // more than it needs
  expect(out, 0, 6);
}

TEST_F(Executor, NullOrInvented_IsRefused) {
  EXPECT_EQ(run(nullptr), ACLNN_ERR_PARAM_NULLPTR);
  expect_message("aclnnMseLossBackward", "executor", "null");
  EXPECT_EQ(run(reinterpret_cast<aclOpExecutor*>(x)), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(run(reinterpret_cast<aclOpExecutor*>(tx.handle)), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(run(reinterpret_cast<aclOpExecutor*>(UINTPTR_MAX)), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclSetAclOpExecutorRepeatable(nullptr), ACLNN_ERR_INNER_NULLPTR);
  EXPECT_EQ(aclDestroyAclOpExecutor(nullptr), ACLNN_ERR_INNER_NULLPTR);
  EXPECT_EQ(aclSetTensorAddr(nullptr, 0, tx, x), ACLNN_ERR_INNER_NULLPTR);
  expect_message("aclSetTensorAddr", "executor", "null");
}

TEST_F(Executor, Repeatable_RunsUntilDestroyed) {
  aclOpExecutor* executor = plan();
  ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
  for (int i = 0; i < 3; ++i) {
    out[0] = out[3] = -1;
    EXPECT_EQ(run(executor), ACLNN_SUCCESS);
    expect(out, 0, 6);
  }
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
  expect_invalid(executor);
}

TEST_F(Executor, Repeatable_FailsAndGoesOn) {
  aclOpExecutor* executor = plan();
  ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
  EXPECT_EQ(aclnnMseLossBackward(nullptr, 0, executor, reinterpret_cast<aclrtStream>(x)),
            ACLNN_ERR_RUNTIME_ERROR);
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out, 0, 6);
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
}

TEST_F(Executor, EveryWayOfRepointing_TakesEffectOnTheNextRun) {
  using Set = aclnnStatus (*)(aclOpExecutor*, size_t, aclTensor*, void*);
  const struct {
    Set set;
    size_t index;
    bool output;
  } setters[] = {{aclSetInputTensorAddr, 1, false}, {AclSetInputTensorAddr, 1, false},
                 {aclSetTensorAddr, 1, false},      {AclSetTensorAddr, 1, false},
                 {aclSetOutputTensorAddr, 0, true}, {AclSetOutputTensorAddr, 0, true},
                 {aclSetTensorAddr, 3, true},       {AclSetTensorAddr, 3, true}};
  for (const auto& setter : setters) {
    EXPECT_EQ(aclSetRawTensorAddr(tx, x), ACLNN_SUCCESS);
    EXPECT_EQ(aclSetRawTensorAddr(tout, out), ACLNN_SUCCESS);
    aclOpExecutor* executor = plan();
    ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
    EXPECT_EQ(run(executor), ACLNN_SUCCESS);
    expect(out, 0, 6);
    std::fill_n(out, 4, -1.0f);
    std::fill_n(out2, 4, -1.0f);
    EXPECT_EQ(setter.set(executor, setter.index, setter.output ? tout : tx, setter.output ? out2 : x2),
              ACLNN_SUCCESS);
    EXPECT_EQ(run(executor), ACLNN_SUCCESS);
    expect(setter.output ? out2 : out, setter.output ? 0 : 2, setter.output ? 6 : 2);
    expect(setter.output ? out : out2, -1, -1);
    EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
  }
}

TEST_F(Executor, RepointingOutOfRange_Is161002) {
  aclOpExecutor* executor = plan();
  EXPECT_EQ(aclSetInputTensorAddr(executor, 3, tx, x), ACLNN_ERR_PARAM_INVALID);
  expect_message("aclSetInputTensorAddr", "index", "3");
  EXPECT_EQ(aclSetOutputTensorAddr(executor, 1, tout, out), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclSetTensorAddr(executor, 4, tout, out), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclSetTensorAddr(executor, SIZE_MAX, tout, out), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclSetTensorAddr(executor, 0, nullptr, out), ACLNN_ERR_INNER_NULLPTR);
  expect_message("aclSetTensorAddr", "tensor", "null");
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
}

TEST_F(Executor, Repointing_GoesByTensorNotByIndex) {
  aclOpExecutor* executor = plan();
  ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
  EXPECT_EQ(aclSetInputTensorAddr(executor, 0, tx, x2), ACLNN_SUCCESS);  // the index of gradOutput
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out, 2, 2);
  void* address = nullptr;
  EXPECT_EQ(aclGetRawTensorAddr(tx, &address), ACLNN_SUCCESS);
  EXPECT_EQ(address, x2);
  EXPECT_EQ(aclSetTensorAddr(executor, 0, tout, out2), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out2, 2, 2);
  Tensor stranger(g, {4});  // not one of this executor's: nothing there changes
  EXPECT_EQ(aclSetTensorAddr(executor, 0, stranger, x), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out2, 2, 2);
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
}

TEST_F(Executor, RawAddressSetBetweenRuns_TakesEffect) {
  aclOpExecutor* executor = plan();
  ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out, 0, 6);
  std::fill_n(out, 4, -1.0f);
  EXPECT_EQ(aclSetRawTensorAddr(tx, x2), ACLNN_SUCCESS);
  EXPECT_EQ(aclSetRawTensorAddr(tout, out2), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out2, 2, 2);
  expect(out, -1, -1);
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
}

TEST_F(Executor, RawAddressSetBetweenThePhases_TakesEffect) {
  aclOpExecutor* executor = plan();
  EXPECT_EQ(aclSetRawTensorAddr(tx, x2), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out, 2, 2);
}

TEST_F(Executor, TensorOfTwoOperandsAndTwoExecutors_MovesThemAll) {
  aclOpExecutor *both = nullptr, *other = plan();
  ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(tx, tx, ty, 2, tout, &workspace, &both), ACLNN_SUCCESS);
  for (aclOpExecutor* each : {both, other}) ASSERT_EQ(aclSetAclOpExecutorRepeatable(each), ACLNN_SUCCESS);
  EXPECT_EQ(aclSetInputTensorAddr(both, 0, tx, x2), ACLNN_SUCCESS);
  EXPECT_EQ(run(both), ACLNN_SUCCESS);
  expect(out, 4, 4);  // 2 * (2 - 1) * 2
  EXPECT_EQ(run(other), ACLNN_SUCCESS);
  expect(out, 2, 2);
  for (aclOpExecutor* each : {both, other}) EXPECT_EQ(aclDestroyAclOpExecutor(each), ACLNN_SUCCESS);
}

TEST_F(Executor, RepointingThroughAList_MovesItsElement) {
  using Set = aclnnStatus (*)(aclOpExecutor*, size_t, size_t, aclTensorList*, void*);
  const int64_t shape[] = {4};
  aclTensor* element = aclCreateTensor(shape, 1, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, shape, 1, x);
  const aclTensor* const elements[] = {nullptr, element};
  aclTensorList* list = aclCreateTensorList(elements, 2);
  aclOpExecutor* executor = nullptr;
  ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(tg, element, ty, 2, tout, &workspace, &executor),
            ACLNN_SUCCESS);
  ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
  for (const Set set :
       {aclSetDynamicInputTensorAddr, AclSetDynamicInputTensorAddr, aclSetDynamicOutputTensorAddr,
        AclSetDynamicOutputTensorAddr, aclSetDynamicTensorAddr, AclSetDynamicTensorAddr}) {
    EXPECT_EQ(aclSetRawTensorAddr(element, x), ACLNN_SUCCESS);
    EXPECT_EQ(set(executor, 0, 1, list, x2), ACLNN_SUCCESS);
    EXPECT_EQ(run(executor), ACLNN_SUCCESS);
    expect(out, 2, 2);
    EXPECT_EQ(set(executor, 0, 1, nullptr, x), ACLNN_ERR_INNER_NULLPTR);
    EXPECT_EQ(set(nullptr, 0, 1, list, x), ACLNN_ERR_INNER_NULLPTR);
    EXPECT_EQ(set(executor, 0, 0, list, x), ACLNN_ERR_INNER_NULLPTR);
    EXPECT_EQ(set(executor, 0, 2, list, x), ACLNN_ERR_PARAM_INVALID);
    expect_message("Dynamic", "relativeIndex", "2");
    EXPECT_EQ(set(executor, 4, 1, list, x), ACLNN_ERR_PARAM_INVALID);
  }
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
  EXPECT_EQ(aclDestroyTensorList(list), ACLNN_SUCCESS);
  EXPECT_EQ(aclDestroyTensor(element), ACLNN_ERR_PARAM_INVALID);  // the list owned it
}

TEST_F(Executor, RepointedIntoOverlap_IsRefusedAtTheRunAndWritesNothing) {
  float shared[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  aclOpExecutor* executor = plan();
  ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
  EXPECT_EQ(aclSetInputTensorAddr(executor, 1, tx, shared), ACLNN_SUCCESS);
  EXPECT_EQ(aclSetOutputTensorAddr(executor, 0, tout, shared + 1), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_ERR_PARAM_INVALID);
  expect_message("aclnnMseLossBackward", "out", "self");
  EXPECT_EQ(shared[1], 2);
  EXPECT_EQ(aclSetOutputTensorAddr(executor, 0, tout, shared), ACLNN_SUCCESS);  // in place
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(shared, 0, 6);
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
}

TEST_F(Executor, AddressGivenOnlyAfterPhaseOne_Works) {
  Tensor later(nullptr, {4});
  aclOpExecutor* executor = nullptr;
  ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(tg, later, ty, 2, tout, &workspace, &executor),
            ACLNN_SUCCESS);
  ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_ERR_PARAM_NULLPTR);
  expect_message("aclnnMseLossBackward", "self", "null");
  EXPECT_EQ(aclSetInputTensorAddr(executor, 1, later, x), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out, 0, 6);
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
}

TEST_F(Executor, TensorsDestroyedAfterPhaseTwo_AreNotNeeded) {
  aclOpExecutor* executor = plan();
  ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  aclTensor* const gone = tx;
  for (Tensor* tensor : {&tg, &tx, &ty, &tout}) tensor->destroy();
  EXPECT_EQ(aclSetRawTensorAddr(gone, x2), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclSetInputTensorAddr(executor, 1, gone, x2), ACLNN_ERR_PARAM_INVALID);
  Tensor successor(x2, {4});  // may reuse the slot of a destroyed tensor
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out, 0, 6);
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
}

TEST_F(Executor, Repointed_KeepsTheViewsOffset) {
  float storage[6] = {0, 0, 1, 2, 3, 4}, other[6] = {0, 0, 2, 2, 2, 2};
  Tensor view(storage, {4}, ACL_FLOAT, {.offset = 2, .storage = {6}});
  aclOpExecutor* executor = nullptr;
  ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(tg, view, ty, 2, tout, &workspace, &executor),
            ACLNN_SUCCESS);
  ASSERT_EQ(aclSetInputTensorAddr(executor, 1, view, other), ACLNN_SUCCESS);
  EXPECT_EQ(run(executor), ACLNN_SUCCESS);
  expect(out, 2, 2);
}

// What a run reads is what it has checked: addresses that overlap or are null are never used, however they
// race.
TEST_F(Executor, RepointedWhileItRuns_UsesOnlyCheckedAddresses) {
  float memory[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  ASSERT_EQ(aclSetRawTensorAddr(tx, memory), ACLNN_SUCCESS);
  aclOpExecutor* executor = plan();
  ASSERT_EQ(aclSetAclOpExecutorRepeatable(executor), ACLNN_SUCCESS);
  std::atomic<bool> done{false};
  std::thread setter([&] {
    for (int i = 0; !done; ++i) {
      void* const addresses[] = {out, memory + 1, out2, nullptr};
      EXPECT_EQ(aclSetOutputTensorAddr(executor, 0, tout, addresses[i % 4]), ACLNN_SUCCESS);
      EXPECT_EQ(aclSetRawTensorAddr(tx, i % 3 == 0 ? nullptr : memory), ACLNN_SUCCESS);
    }
  });
  const auto use = [&] {
    EXPECT_EQ(aclrtSetDevice(0), ACL_SUCCESS);
    int counts[3] = {};
    for (int i = 0; i < 20000 || (i < 2000000 && (counts[0] == 0 || counts[1] == 0)); ++i) {
      const aclnnStatus code = aclnnMseLossBackward(nullptr, 0, executor, nullptr);
      ++counts[code == ACLNN_SUCCESS ? 0 : code == ACLNN_ERR_PARAM_INVALID ? 1 : 2];
      EXPECT_TRUE(code == ACLNN_SUCCESS || code == ACLNN_ERR_PARAM_INVALID || code == ACLNN_ERR_PARAM_NULLPTR)
          << code;
    }
    EXPECT_GT(counts[0], 0);
    EXPECT_EQ(aclrtResetDevice(0), ACL_SUCCESS);
  };
  std::thread other(use);
  use();
  other.join();
  done = true;
  setter.join();
  for (int i = 0; i < 8; ++i) EXPECT_EQ(memory[i], static_cast<float>(i + 1));
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
}

TEST_F(Executor, UsedByTwoThreadsAtOnce_RunsOnce) {
  for (int round = 0; round < 200; ++round) {
    aclOpExecutor* executor = plan();
    std::atomic<int> ran{0}, refused{0};
    const auto use = [&] {
      EXPECT_EQ(aclrtSetDevice(0), ACL_SUCCESS);
      (aclnnMseLossBackward(nullptr, 0, executor, nullptr) == ACLNN_SUCCESS ? ran : refused)++;
      EXPECT_EQ(aclrtResetDevice(0), ACL_SUCCESS);
    };
    std::thread other(use);
    use();
    ASSERT_EQ(aclrtSetDevice(0), ACL_SUCCESS);
    other.join();
    EXPECT_EQ(ran, 1);
    EXPECT_EQ(refused, 1);
    EXPECT_EQ(aclrtResetDevice(0), ACL_SUCCESS);
  }
}

}  // namespace
