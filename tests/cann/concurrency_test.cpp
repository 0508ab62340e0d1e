// Concurrent threads: on separate streams, on the shared default stream, on the same handles.
#include <atomic>
#include <thread>

#include "acl/handle.h"
#include "tests/cann/session.h"

namespace {

constexpr int kThreads = 8;

template <class Body>
void in_threads(Body body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([body, i] {
      ASSERT_EQ(aclrtSetDevice(0), ACL_SUCCESS);
      body(i);
      EXPECT_EQ(aclrtResetDevice(0), ACL_SUCCESS);
    });
  }
  for (auto& thread : threads) thread.join();
}

class Concurrency : public cann::Test {};

// x = thread, y = round, so each result identifies its thread and round.
void train(int thread, aclrtStream stream, int64_t count, int rounds) {
  std::vector<float> g(count, 1), x(count, thread), y(count), out(count);
  cann::Tensor tg(g.data(), {count}), tx(x.data(), {count}), ty(y.data(), {count}), tout(out.data(), {count});
  for (int round = 0; round < rounds; ++round) {
    const float value = round;
    for (float& each : y) each = value;
    uint64_t workspace;
    aclOpExecutor* executor = nullptr;
    ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(tg, tx, ty, 2, tout, &workspace, &executor),
              ACLNN_SUCCESS);
    ASSERT_EQ(aclnnMseLossBackward(nullptr, workspace, executor, stream), ACLNN_SUCCESS);
    ASSERT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
    ASSERT_EQ(out[0], 2.0f * (thread - round));
    ASSERT_EQ(out[count - 1], 2.0f * (thread - round));
    // Error messages are per thread.
    ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(tg, tx, ty, 3 + thread, tout, &workspace, &executor),
              ACLNN_ERR_PARAM_INVALID);
    ASSERT_NE(cann::message().find("got " + std::to_string(3 + thread)), std::string::npos);
  }
}

TEST_F(Concurrency, ThreadsWithStreamsOfTheirOwn_GetTheirResults) {
  in_threads([](int thread) {
    const cann::Stream own;
    train(thread, own, 16, 500);
    train(thread, own, 50000, 5);
  });
}

TEST_F(Concurrency, ThreadsOnTheDefaultStream_GetTheirResults) {
  in_threads([](int thread) {
    train(thread, nullptr, 16, 500);
    train(thread, nullptr, 50000, 5);
  });
}

TEST_F(Concurrency, ThreadsWithContextsOfTheirOwn_GetTheirResults) {
  in_threads([](int thread) {
    aclrtContext before, own;
    ASSERT_EQ(aclrtGetCurrentContext(&before), ACL_SUCCESS);
    ASSERT_EQ(aclrtCreateContext(&own, 0), ACL_SUCCESS);
    train(thread, nullptr, 40000, 5);
    EXPECT_EQ(aclrtDestroyContext(own), ACL_SUCCESS);
    EXPECT_EQ(aclrtSetCurrentContext(before), ACL_SUCCESS);
  });
}

TEST_F(Concurrency, OneTensorReadByAll_Works) {
  float x[16] = {};
  cann::Tensor tx(x, {16});
  in_threads([&](int) {
    float out[16];
    cann::Tensor tout(out, {16});
    for (int round = 0; round < 500; ++round) {
      uint64_t workspace;
      aclOpExecutor* executor = nullptr;
      ASSERT_EQ(aclnnMseLossGetWorkspaceSize(tx, tx, 0, tout, &workspace, &executor), ACLNN_SUCCESS);
      ASSERT_EQ(aclnnMseLoss(nullptr, 0, executor, nullptr), ACLNN_SUCCESS);
    }
    EXPECT_EQ(aclrtSynchronizeStream(nullptr), ACL_SUCCESS);
  });
}

TEST_F(Concurrency, SameHandlesDestroyedByAll_EndOnce) {
  for (int round = 0; round < 20; ++round) {
    aclrtStream own;
    aclrtEvent event;
    float x[2];
    const int64_t two = 2;
    ASSERT_EQ(aclrtCreateStream(&own), ACL_SUCCESS);
    ASSERT_EQ(aclrtCreateEvent(&event), ACL_SUCCESS);
    aclTensor* tensor = aclCreateTensor(&two, 1, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, &two, 1, x);
    std::atomic<int> streams{0}, events{0}, tensors{0};
    in_threads([&](int) {
      (void)aclrtRecordEvent(event, own);
      (void)aclrtStreamWaitEvent(own, event);
      (void)aclrtSynchronizeStream(own);
      streams += aclrtDestroyStream(own) == ACL_SUCCESS;
      events += aclrtDestroyEvent(event) == ACL_SUCCESS;
      tensors += aclDestroyTensor(tensor) == ACLNN_SUCCESS;
    });
    EXPECT_EQ(streams, 1);
    EXPECT_EQ(events, 1);
    EXPECT_EQ(tensors, 1);
  }
}

// Counts the live objects; `owner` is set by one thread only.
struct Owned {
  explicit Owned(std::atomic<int>* count) noexcept : live(count) { ++*live; }
  ~Owned() { --*live; }
  std::atomic<int>* const live;
  std::atomic<int> owner{-1};
};
using OwnedTable = mseloss::acl::HandleTable<Owned, 7>;
constinit OwnedTable owned_table;

TEST_F(Concurrency, SlotsTakenAndReturnedByAll_BelongToOneHandleEach) {
  std::atomic<int> live{0};
  in_threads([&](int thread) {
    std::vector<void*> handles;
    for (int round = 0; round < 20000; ++round) {
      const size_t count = 1 + (round * 7 + thread * 13) % 40;  // several chunks of slots for all threads
      for (size_t i = 0; i < count; ++i) {
        handles.push_back(owned_table.insert(&live));
        const auto pin = owned_table.acquire(handles.back());
        ASSERT_TRUE(pin);
        ASSERT_EQ(pin->owner.exchange(thread), -1) << "the slot has another owner";
      }
      for (void* handle : handles) {
        const auto pin = owned_table.acquire(handle);
        ASSERT_TRUE(pin);
        ASSERT_EQ(pin->owner, thread);
        ASSERT_TRUE(owned_table.retire(handle));
        ASSERT_FALSE(owned_table.acquire(handle));
        ASSERT_FALSE(owned_table.retire(handle));
      }
      handles.clear();
    }
  });
  EXPECT_EQ(live, 0);
}

TEST_F(Concurrency, EventsBetweenThreads_PassTheWorkOn) {
  // Thread i waits for its predecessor's event, writes its value, and records its own event.
  std::vector<cann::Event> events(kThreads + 1);
  std::vector<char> memory(1 << 20);
  in_threads([&](int thread) {
    const cann::Stream own;
    ASSERT_EQ(aclrtStreamWaitEvent(own, events[thread]), ACL_SUCCESS);
    for (int half = 0; half < 2; ++half) {
      ASSERT_EQ(aclrtMemsetAsync(memory.data(), memory.size(), 2 * thread + half, memory.size(), own),
                ACL_SUCCESS);
    }
    ASSERT_EQ(aclrtRecordEvent(events[thread + 1], own), ACL_SUCCESS);
    ASSERT_EQ(thread == 0 ? aclrtRecordEvent(events[0], nullptr) : ACL_SUCCESS, ACL_SUCCESS);
    EXPECT_EQ(aclrtSynchronizeStream(own), ACL_SUCCESS);
  });
  EXPECT_EQ(memory.front(), 2 * kThreads - 1);
  EXPECT_EQ(memory.back(), 2 * kThreads - 1);
}

}  // namespace
