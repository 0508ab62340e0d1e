// Streams and events: order, asynchrony, destruction, fork.
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "acl/runtime.h"
#include "tests/cann/session.h"

namespace {

using cann::Event;
using cann::expect_message;

constexpr size_t kLarge = 8u << 20;  // bytes: too large to run inline

class Streams : public cann::Test {
 protected:
  aclrtStreamStatus status_of(aclrtStream s) {
    aclrtStreamStatus status = ACL_STREAM_STATUS_RESERVED;
    EXPECT_EQ(aclrtStreamQuery(s, &status), ACL_SUCCESS);
    return status;
  }
  aclrtEventRecordedStatus status_of_event(aclrtEvent event) {
    auto status = ACL_EVENT_RECORDED_STATUS_NOT_READY;
    EXPECT_EQ(aclrtQueryEventStatus(event, &status), ACL_SUCCESS);
    return status;
  }
  // Destroys a stream that waits for an event which nobody records.
  void expect_rest_dropped(aclError (*destroy)(aclrtStream)) {
    Event never, behind;
    char byte = 0;
    aclrtStream own;
    ASSERT_EQ(aclrtCreateStream(&own), ACL_SUCCESS);
    EXPECT_EQ(aclrtStreamWaitEvent(own, never), ACL_SUCCESS);
    EXPECT_EQ(aclrtMemsetAsync(&byte, 1, 1, 1, own), ACL_SUCCESS);
    EXPECT_EQ(aclrtRecordEvent(behind, own), ACL_SUCCESS);
    EXPECT_EQ(destroy(own), ACL_SUCCESS);
    EXPECT_EQ(aclrtSynchronizeEvent(behind), ACL_SUCCESS);  // otherwise its waiters would block forever
    EXPECT_EQ(byte, 0);
  }
};

TEST_F(Streams, WorkOfAllSizes_RunsInOrder) {
  std::vector<char> memory(kLarge), copy(kLarge);
  for (int round = 1; round <= 20; ++round) {
    EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, 0, kLarge, stream), ACL_SUCCESS);
    EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, round, 16, stream), ACL_SUCCESS);
    EXPECT_EQ(
        aclrtMemcpyAsync(copy.data(), kLarge, memory.data(), kLarge, ACL_MEMCPY_DEVICE_TO_DEVICE, stream),
        ACL_SUCCESS);
    EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, 99, 16, stream), ACL_SUCCESS);
    EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
    EXPECT_EQ(copy[0], round);
    EXPECT_EQ(copy[15], round);
    EXPECT_EQ(copy[16], 0);
    EXPECT_EQ(memory[0], 99);
  }
  EXPECT_EQ(status_of(stream), ACL_STREAM_STATUS_COMPLETE);
}

TEST_F(Streams, TinyWorkOnAnIdleStream_IsDoneAtOnce) {
  char byte = 0;
  EXPECT_EQ(aclrtMemsetAsync(&byte, 1, 5, 1, stream), ACL_SUCCESS);
  EXPECT_EQ(byte, 5);
  EXPECT_EQ(status_of(stream), ACL_STREAM_STATUS_COMPLETE);
}

TEST_F(Streams, FailureOfQueuedWork_IsReportedByOneSynchronisation) {
  for (const bool finished_before : {false, true}) {
    const auto pin = mseloss::acl::streams.acquire(stream);
    for (const aclError code : {ACL_SUCCESS, ACL_ERROR_RT_MEMORY_ALLOCATION, ACL_ERROR_RT_PARAM_INVALID}) {
      ASSERT_EQ(mseloss::acl::submit(pin, false, [code]() noexcept { return code; }), ACL_SUCCESS);
    }
    while (finished_before && status_of(stream) != ACL_STREAM_STATUS_COMPLETE) std::this_thread::yield();
    EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_ERROR_RT_MEMORY_ALLOCATION) << "the first failure";
    EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
  }
}

TEST_F(Streams, NullStream_IsTheDefaultStream) {
  std::vector<char> memory(kLarge);
  EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, 7, kLarge, nullptr), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(nullptr), ACL_SUCCESS);
  EXPECT_EQ(memory[kLarge - 1], 7);
  EXPECT_EQ(status_of(nullptr), ACL_STREAM_STATUS_COMPLETE);
}

TEST_F(Streams, WaitBeforeRecordInOneThread_DoesNotBlockTheCaller) {
  cann::Stream other;
  Event event;
  char byte = 0;
  EXPECT_EQ(aclrtStreamWaitEvent(stream, event), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(&byte, 1, 1, 1, stream), ACL_SUCCESS);
  EXPECT_EQ(status_of(stream), ACL_STREAM_STATUS_NOT_READY);
  EXPECT_EQ(aclrtSynchronizeStreamWithTimeout(stream, 20), ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
  expect_message("aclrtSynchronizeStreamWithTimeout", "stream", "20 ms");
  EXPECT_EQ(aclrtSynchronizeStreamWithTimeout(stream, 0), ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
  EXPECT_EQ(aclrtRecordEvent(event, other), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStreamWithTimeout(stream, -1), ACL_SUCCESS);
  EXPECT_EQ(byte, 1);
}

TEST_F(Streams, EventAfterLargeWork_OrdersAnotherStream) {
  cann::Stream other;
  std::vector<char> memory(kLarge);
  for (int round = 1; round <= 10; ++round) {
    Event event;
    char last = 0;
    EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, round, kLarge, stream), ACL_SUCCESS);
    EXPECT_EQ(aclrtRecordEvent(event, stream), ACL_SUCCESS);
    EXPECT_EQ(aclrtStreamWaitEvent(other, event), ACL_SUCCESS);
    EXPECT_EQ(aclrtMemcpyAsync(&last, 1, &memory[kLarge - 1], 1, ACL_MEMCPY_DEVICE_TO_DEVICE, other),
              ACL_SUCCESS);
    EXPECT_EQ(aclrtSynchronizeStream(other), ACL_SUCCESS);
    EXPECT_EQ(last, round);
    EXPECT_EQ(aclrtSynchronizeEvent(event), ACL_SUCCESS);
    EXPECT_EQ(status_of_event(event), ACL_EVENT_RECORDED_STATUS_COMPLETE);
  }
}

TEST_F(Streams, SynchronousCopy_SeesWorkOnEveryStreamOfTheContext) {
  std::vector<char> memory(kLarge);
  char last = 0;
  EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, 3, kLarge, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemcpy(&last, 1, &memory[kLarge - 1], 1, ACL_MEMCPY_DEVICE_TO_HOST), ACL_SUCCESS);
  EXPECT_EQ(last, 3);
}

TEST_F(Streams, SynchronousCopy_DoesNotWaitForAnEventNobodyHasRecorded) {
  cann::Stream other;
  Event never, soon;
  std::vector<char> memory(kLarge);
  char last = 0, byte = 0;
  EXPECT_EQ(aclrtStreamWaitEvent(other, soon), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, 4, kLarge, other), ACL_SUCCESS);
  EXPECT_EQ(aclrtStreamWaitEvent(other, never), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(&byte, 1, 1, 1, other), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, 3, kLarge, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtRecordEvent(soon, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemcpy(&last, 1, &memory[kLarge - 1], 1, ACL_MEMCPY_DEVICE_TO_HOST), ACL_SUCCESS);
  EXPECT_EQ(last, 4);
  EXPECT_EQ(byte, 0);
  EXPECT_EQ(aclrtRecordEvent(never, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeDevice(), ACL_SUCCESS);
  EXPECT_EQ(byte, 1);
}

TEST_F(Streams, WaitForARecordedEvent_TakesThatRecord) {
  cann::Stream other;
  Event event, gate;
  char byte = 0;
  EXPECT_EQ(aclrtRecordEvent(event, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtStreamWaitEvent(other, event), ACL_SUCCESS);
  EXPECT_EQ(status_of(other), ACL_STREAM_STATUS_COMPLETE);
  // The second record is blocked by the gate; a wait issued now applies to that record.
  EXPECT_EQ(aclrtStreamWaitEvent(stream, gate), ACL_SUCCESS);
  EXPECT_EQ(aclrtRecordEvent(event, stream), ACL_SUCCESS);
  EXPECT_EQ(status_of_event(event), ACL_EVENT_RECORDED_STATUS_NOT_READY);
  EXPECT_EQ(aclrtStreamWaitEvent(other, event), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(&byte, 1, 1, 1, other), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStreamWithTimeout(other, 20), ACL_ERROR_RT_STREAM_SYNC_TIMEOUT);
  EXPECT_EQ(aclrtRecordEvent(gate, other), ACL_SUCCESS);  // blocked by the wait it would release
  EXPECT_EQ(aclrtRecordEvent(gate, nullptr), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(other), ACL_SUCCESS);
  EXPECT_EQ(byte, 1);
}

TEST_F(Streams, ResetEvent_IsNotReadyUntilRecordedAgain) {
  Event event;
  EXPECT_EQ(status_of_event(event), ACL_EVENT_RECORDED_STATUS_NOT_READY);
  EXPECT_EQ(aclrtRecordEvent(event, stream), ACL_SUCCESS);
  EXPECT_EQ(status_of_event(event), ACL_EVENT_RECORDED_STATUS_COMPLETE);
  EXPECT_EQ(aclrtResetEvent(event, stream), ACL_SUCCESS);
  EXPECT_EQ(status_of_event(event), ACL_EVENT_RECORDED_STATUS_NOT_READY);
  EXPECT_EQ(aclrtSynchronizeEventWithTimeout(event, 10), ACL_ERROR_RT_EVENT_SYNC_TIMEOUT);
  expect_message("aclrtSynchronizeEventWithTimeout", "event", "10 ms");
  EXPECT_EQ(aclrtRecordEvent(event, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeEventWithTimeout(event, 10), ACL_SUCCESS);
}

TEST_F(Streams, EventSynchronisedBeforeItsRecord_WaitsForAnotherThreadsRecord) {
  Event event;
  std::thread recorder([&] {
    ASSERT_EQ(aclrtSetDevice(0), ACL_SUCCESS);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(aclrtRecordEvent(event, nullptr), ACL_SUCCESS);
    EXPECT_EQ(aclrtResetDevice(0), ACL_SUCCESS);
  });
  EXPECT_EQ(aclrtSynchronizeEvent(event), ACL_SUCCESS);
  recorder.join();
}

TEST_F(Streams, ElapsedTime_IsThatBetweenTheRecords) {
  Event start, end;
  float ms = -1;
  EXPECT_EQ(aclrtRecordEvent(start, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtEventElapsedTime(&ms, start, end), ACL_ERROR_RT_PARAM_INVALID);
  expect_message("aclrtEventElapsedTime", "endEvent", "has not");
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(aclrtRecordEvent(end, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtEventElapsedTime(&ms, start, end), ACL_SUCCESS);
  EXPECT_GE(ms, 4.9f);
  EXPECT_LT(ms, 5000);
  EXPECT_EQ(aclrtEventElapsedTime(&ms, end, start), ACL_SUCCESS);
  EXPECT_LE(ms, -4.9f);
}

TEST_F(Streams, EventFlag_IsCheckedByItsBits) {
  aclrtEvent event;
  for (const uint32_t flag : {ACL_EVENT_SYNC, ACL_EVENT_TIME_LINE, ACL_EVENT_SYNC | ACL_EVENT_TIME_LINE}) {
    ASSERT_EQ(aclrtCreateEventWithFlag(&event, flag), ACL_SUCCESS);
    EXPECT_EQ(aclrtDestroyEvent(event), ACL_SUCCESS);
    ASSERT_EQ(aclrtCreateEventExWithFlag(&event, flag), ACL_SUCCESS);
    EXPECT_EQ(aclrtDestroyEvent(event), ACL_SUCCESS);
  }
  EXPECT_EQ(aclrtCreateEventWithFlag(&event, 0), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtCreateEventWithFlag(&event, 0x100), ACL_ERROR_RT_PARAM_INVALID);
}

TEST_F(Streams, BadTimeout_Is107000) {
  Event event;
  EXPECT_EQ(aclrtSynchronizeStreamWithTimeout(stream, -2), ACL_ERROR_RT_PARAM_INVALID);
  expect_message("aclrtSynchronizeStreamWithTimeout", "timeout", "-2");
  EXPECT_EQ(aclrtSynchronizeEventWithTimeout(event, -2), ACL_ERROR_RT_PARAM_INVALID);
}

TEST_F(Streams, DestroyedHandles_AreCodesNotCrashes) {
  aclrtStream gone_stream;
  aclrtEvent gone_event;
  aclrtStreamStatus status;
  aclrtEventRecordedStatus event_status;
  float ms;
  ASSERT_EQ(aclrtCreateStreamWithConfig(&gone_stream, 3, ACL_STREAM_FAST_LAUNCH | ACL_STREAM_FAST_SYNC),
            ACL_SUCCESS);
  ASSERT_EQ(aclrtCreateEvent(&gone_event), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyStream(gone_stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyEvent(gone_event), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyStream(gone_stream), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtDestroyEvent(gone_event), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtSynchronizeStream(gone_stream), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtStreamQuery(gone_stream, &status), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtRecordEvent(gone_event, stream), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtStreamWaitEvent(stream, gone_event), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtSynchronizeEvent(gone_event), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtQueryEventStatus(gone_event, &event_status), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtEventElapsedTime(&ms, gone_event, gone_event), ACL_ERROR_RT_PARAM_INVALID);
  Event event;
  EXPECT_EQ(aclrtRecordEvent(event, gone_stream), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtSynchronizeStream(event), ACL_ERROR_RT_PARAM_INVALID);  // a handle of another type
  EXPECT_EQ(aclrtSynchronizeEvent(stream), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtSynchronizeStream(&status), ACL_ERROR_RT_PARAM_INVALID);  // not a handle
}

TEST_F(Streams, DestroyedWithWork_FinishesWhatCanRun) {
  std::vector<char> memory(kLarge);
  aclrtStream own;
  ASSERT_EQ(aclrtCreateStream(&own), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, 1, kLarge, own), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(memory.data(), kLarge, 2, kLarge, own), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyStream(own), ACL_SUCCESS);
  EXPECT_EQ(memory[kLarge - 1], 2);
}

TEST_F(Streams, DestroyedByForce_DropsWhatHasNotStarted) { expect_rest_dropped(aclrtDestroyStreamForce); }

TEST_F(Streams, DestroyedBehindAnEventNobodyRecords_DropsTheRestAndItsRecords) {
  expect_rest_dropped(aclrtDestroyStream);
}

TEST_F(Streams, EventDestroyedBeforeAnyRecord_LetsItsWaitersGo) {
  aclrtEvent event;
  char byte = 0;
  ASSERT_EQ(aclrtCreateEvent(&event), ACL_SUCCESS);
  EXPECT_EQ(aclrtStreamWaitEvent(stream, event), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(&byte, 1, 1, 1, stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyEvent(event), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
  EXPECT_EQ(byte, 1);
}

TEST_F(Streams, ForkedChild_UsesAndDestroysItsParents) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP()
      << "ThreadSanitizer does not allow a forked child of a multi-threaded process to start threads";
#endif
  std::vector<char> memory(kLarge);
  cann::Stream other;
  for (const aclrtStream each : std::initializer_list<aclrtStream>{stream, other}) {
    ASSERT_EQ(aclrtMemsetAsync(memory.data(), kLarge, 1, kLarge, each), ACL_SUCCESS);
    ASSERT_EQ(aclrtSynchronizeStream(each), ACL_SUCCESS);
  }
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    const bool works = aclrtMemsetAsync(memory.data(), kLarge, 2, kLarge, stream) == ACL_SUCCESS &&
                       aclrtSynchronizeStream(stream) == ACL_SUCCESS && memory[kLarge - 1] == 2;
    const bool ends = aclrtDestroyStream(stream) == ACL_SUCCESS && aclrtDestroyStream(other) == ACL_SUCCESS;
    _exit(works && ends ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(memory[0], 1);
}

}  // namespace
