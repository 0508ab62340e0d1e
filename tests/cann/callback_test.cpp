// Callbacks on streams: the subscribed thread runs them, in order, blocking or not; and their errors.
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "acl/runtime.h"
#include "tests/cann/session.h"

namespace {

using cann::expect_message;

uint64_t id_of(std::thread& thread) { return static_cast<uint64_t>(thread.native_handle()); }
uint64_t this_id() { return static_cast<uint64_t>(pthread_self()); }

struct Record {
  std::atomic<int> calls{0};
  std::atomic<uint64_t> thread{0};
};
void record(void* user_data) {
  auto& to = *static_cast<Record*>(user_data);
  to.thread = this_id();
  ++to.calls;
}

class Callbacks : public cann::Test {
 protected:
  // A thread that processes callbacks until the fixture ends.
  std::atomic<bool> done{false};
  std::thread processor{[this] {
    while (!done) (void)aclrtProcessReport(5);
  }};
  void TearDown() override {
    done = true;
    processor.join();
  }
};

TEST_F(Callbacks, BlockingCallback_RunsOnTheSubscribedThreadBeforeTheNextTask) {
  ASSERT_EQ(aclrtSubscribeReport(id_of(processor), stream), ACL_SUCCESS);
  Record calls;
  char byte = 0;
  const auto slow = [](void* user_data) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    record(user_data);
  };
  EXPECT_EQ(aclrtLaunchCallback(slow, &calls, ACL_CALLBACK_BLOCK, stream), ACL_SUCCESS);
  struct Check {
    const Record* calls;
    int seen;
  } check{&calls, -1};
  const auto look = [](void* args) {
    auto& at = *static_cast<Check*>(args);
    at.seen = at.calls->calls;
  };
  EXPECT_EQ(aclrtLaunchHostFunc(stream, look, &check), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(&byte, 1, 1, 1, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
  EXPECT_EQ(check.seen, 1);
  EXPECT_EQ(byte, 1);
  EXPECT_EQ(calls.thread, id_of(processor));
  EXPECT_EQ(aclrtUnSubscribeReport(id_of(processor), stream), ACL_SUCCESS);
}

TEST_F(Callbacks, NonBlockingCallback_LetsTheStreamContinue) {
  std::atomic<bool> gate{false};
  Record calls;
  const auto wait = [](void* user_data) {
    while (!*static_cast<std::atomic<bool>*>(user_data)) std::this_thread::yield();
  };
  ASSERT_EQ(aclrtSubscribeReport(id_of(processor), stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtLaunchCallback(wait, &gate, ACL_CALLBACK_NO_BLOCK, stream), ACL_SUCCESS);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(aclrtLaunchCallback(record, &calls, ACL_CALLBACK_NO_BLOCK, stream), ACL_SUCCESS);
  }
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
  EXPECT_EQ(calls.calls, 0);
  gate = true;
  while (calls.calls < 100) std::this_thread::yield();
  EXPECT_EQ(aclrtUnSubscribeReport(id_of(processor), stream), ACL_SUCCESS);
}

TEST_F(Callbacks, OneThread_ServesManyStreams) {
  Record calls;
  std::vector<cann::Stream> streams(4);
  for (auto& each : streams) ASSERT_EQ(aclrtSubscribeReport(id_of(processor), each), ACL_SUCCESS);
  for (int i = 0; i < 50; ++i) {
    for (auto& each : streams) {
      EXPECT_EQ(aclrtLaunchCallback(record, &calls, i % 2 ? ACL_CALLBACK_BLOCK : ACL_CALLBACK_NO_BLOCK, each),
                ACL_SUCCESS);
    }
  }
  for (auto& each : streams) EXPECT_EQ(aclrtSynchronizeStream(each), ACL_SUCCESS);
  EXPECT_EQ(calls.calls, 200);  // the last callback of each stream blocks it
}  // destroying a stream ends its subscription

TEST_F(Callbacks, Unsubscribed_DropsWhatIsQueuedAndFreesTheStream) {
  Record calls;
  ASSERT_EQ(aclrtSubscribeReport(1, stream), ACL_SUCCESS);  // a thread that never processes
  EXPECT_EQ(aclrtLaunchCallback(record, &calls, ACL_CALLBACK_NO_BLOCK, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtLaunchCallback(record, &calls, ACL_CALLBACK_BLOCK, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStreamWithTimeout(stream, 20), ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
  EXPECT_EQ(aclrtSynchronizeDeviceWithTimeout(5), ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
  EXPECT_EQ(aclrtUnSubscribeReport(1, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
  EXPECT_EQ(calls.calls, 0);
}

TEST_F(Callbacks, StreamDestroyedByForce_DropsAWaitingCallback) {
  Record calls;
  aclrtStream own;
  ASSERT_EQ(aclrtCreateStream(&own), ACL_SUCCESS);
  ASSERT_EQ(aclrtSubscribeReport(1, own), ACL_SUCCESS);
  EXPECT_EQ(aclrtLaunchCallback(record, &calls, ACL_CALLBACK_BLOCK, own), ACL_SUCCESS);
  EXPECT_EQ(aclrtLaunchCallback(record, &calls, ACL_CALLBACK_BLOCK, own), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyStreamForce(own), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyStreamForce(own), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtDestroyStreamForce(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(calls.calls, 0);
}

// The callback can only run on this thread, or on one that does not exist.
TEST_F(Callbacks, StreamOrContextDestroyedBeforeACallbackRan_DropsIt) {
  mseloss::acl::callback_timeout_ms = 20;
  Record calls;
  for (const uint64_t thread : {this_id(), uint64_t{1}}) {
    for (const bool whole_context : {false, true}) {
      aclrtContext before, context;
      aclrtStream own;
      ASSERT_EQ(aclrtGetCurrentContext(&before), ACL_SUCCESS);
      ASSERT_EQ(aclrtCreateContext(&context, 0), ACL_SUCCESS);
      ASSERT_EQ(aclrtCreateStream(&own), ACL_SUCCESS);
      ASSERT_EQ(aclrtSubscribeReport(thread, own), ACL_SUCCESS);
      EXPECT_EQ(aclrtLaunchCallback(record, &calls, ACL_CALLBACK_BLOCK, own), ACL_SUCCESS);
      if (!whole_context) {
        EXPECT_EQ(aclrtDestroyStream(own), ACL_SUCCESS);
      }
      EXPECT_EQ(aclrtDestroyContext(context), ACL_SUCCESS);
      EXPECT_EQ(aclrtSetCurrentContext(before), ACL_SUCCESS);
    }
  }
  EXPECT_EQ(calls.calls, 0);
  mseloss::acl::callback_timeout_ms = 1000;
}

// Destroying the stream waits for the thread that runs its callbacks.
TEST_F(Callbacks, StreamDestroyedWhileACallbackIsDue_RunsIt) {
  Record calls;
  for (int i = 0; i < 20; ++i) {
    aclrtStream own;
    ASSERT_EQ(aclrtCreateStream(&own), ACL_SUCCESS);
    ASSERT_EQ(aclrtSubscribeReport(id_of(processor), own), ACL_SUCCESS);
    EXPECT_EQ(aclrtLaunchCallback(record, &calls, ACL_CALLBACK_BLOCK, own), ACL_SUCCESS);
    EXPECT_EQ(aclrtDestroyStream(own), ACL_SUCCESS);
  }
  EXPECT_EQ(calls.calls, 20);
}

TEST_F(Callbacks, Misuse_HasItsCode) {
  Record calls;
  EXPECT_EQ(aclrtLaunchCallback(record, &calls, ACL_CALLBACK_BLOCK, stream), ACL_ERROR_RT_STREAM_NO_CB_REG);
  expect_message("aclrtLaunchCallback", "stream", "no such call");
  EXPECT_EQ(aclrtUnSubscribeReport(1, stream), ACL_ERROR_RT_STREAM_SUBSCRIBE);
  ASSERT_EQ(aclrtSubscribeReport(1, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtSubscribeReport(2, stream), ACL_ERROR_RT_STREAM_SUBSCRIBE);
  EXPECT_EQ(aclrtUnSubscribeReport(2, stream), ACL_ERROR_RT_THREAD_SUBSCRIBE);
  EXPECT_EQ(aclrtLaunchCallback(record, &calls, static_cast<aclrtCallbackBlockType>(2), stream),
            ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtLaunchCallback(nullptr, &calls, ACL_CALLBACK_BLOCK, stream), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtLaunchHostFunc(stream, nullptr, &calls), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtUnSubscribeReport(1, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtProcessReport(0), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtProcessReport(-2), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtProcessReport(1), ACL_ERROR_RT_THREAD_SUBSCRIBE);
  ASSERT_EQ(aclrtSubscribeReport(this_id(), stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtProcessReport(1), ACL_ERROR_RT_REPORT_TIMEOUT);
  EXPECT_EQ(aclrtLaunchCallback(record, &calls, ACL_CALLBACK_BLOCK, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtProcessReport(-1), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
  EXPECT_EQ(calls.thread, this_id());
  EXPECT_EQ(aclrtUnSubscribeReport(this_id(), stream), ACL_SUCCESS);
}

TEST_F(Callbacks, UnsubscribedWhileItWaits_TheThreadReturns) {
  std::atomic<int> code{-1};
  std::atomic<uint64_t> id{0};
  std::thread waiting([&] {
    id = this_id();
    while (code == -1) std::this_thread::yield();
    code = aclrtProcessReport(-1);
  });
  while (id == 0) std::this_thread::yield();
  ASSERT_EQ(aclrtSubscribeReport(id, stream), ACL_SUCCESS);
  code = -2;
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(aclrtUnSubscribeReport(id, stream), ACL_SUCCESS);
  waiting.join();
  // 0 if it was waiting, 107012 if it only called afterwards.
  EXPECT_TRUE(code == ACL_SUCCESS || code == ACL_ERROR_RT_THREAD_SUBSCRIBE) << code;
}

}  // namespace
