// Initialisation, devices, contexts and memory: every return code and the state after it.
#include <cfenv>
#include <cstring>
#include <thread>

#include "acl/acl_prof.h"
#include "tests/cann/session.h"

namespace {

using cann::expect_message;

TEST(Initialisation, EveryOrderOfCalls_HasItsCode) {
  EXPECT_EQ(aclFinalize(), ACL_ERROR_UNINITIALIZE);
  EXPECT_EQ(aclrtSetDevice(0), ACL_ERROR_UNINITIALIZE);
  expect_message("aclrtSetDevice", "aclInit", "no such call");
  aclrtContext context = nullptr;
  EXPECT_EQ(aclrtCreateContext(&context, 0), ACL_ERROR_UNINITIALIZE);
  EXPECT_EQ(aclInit(nullptr), ACL_SUCCESS);
  EXPECT_EQ(aclInit(nullptr), ACL_ERROR_REPEAT_INITIALIZE);
  expect_message("aclInit", "another aclInit", "second");
  EXPECT_EQ(aclFinalize(), ACL_SUCCESS);
  EXPECT_EQ(aclFinalize(), ACL_ERROR_REPEAT_FINALIZE);
  expect_message("aclFinalize", "one call", "second");
  EXPECT_EQ(aclInit("a path that is not read"), ACL_SUCCESS);  // an extension of CANN: initialising again
  EXPECT_EQ(aclFinalize(), ACL_SUCCESS);
}

class Runtime : public testing::Test {
 protected:
  cann::Process process;
};

TEST_F(Runtime, OneDevice_IsTheHost) {
  uint32_t count = 0;
  int32_t device = -1;
  aclrtRunMode mode = ACL_DEVICE;
  EXPECT_EQ(aclrtGetDeviceCount(&count), ACL_SUCCESS);
  EXPECT_EQ(count, 1u);
  EXPECT_EQ(aclrtGetDevice(&device), ACL_SUCCESS);
  EXPECT_EQ(device, 0);
  EXPECT_EQ(aclrtGetRunMode(&mode), ACL_SUCCESS);
  EXPECT_EQ(mode, ACL_HOST);
  EXPECT_STRNE(aclrtGetSocName(), "");
  EXPECT_EQ(aclrtSynchronizeDevice(), ACL_SUCCESS);
}

TEST_F(Runtime, OtherDevice_Is107001) {
  for (const int32_t device : {-1, 1, INT32_MAX}) {
    EXPECT_EQ(aclrtSetDevice(device), ACL_ERROR_RT_INVALID_DEVICEID);
    expect_message("aclrtSetDevice", "deviceId", std::to_string(device));
    EXPECT_EQ(aclrtResetDevice(device), ACL_ERROR_RT_INVALID_DEVICEID);
    aclrtContext context;
    EXPECT_EQ(aclrtCreateContext(&context, device), ACL_ERROR_RT_INVALID_DEVICEID);
  }
}

TEST_F(Runtime, NullResult_Is100000) {
  EXPECT_EQ(aclrtGetDevice(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtGetDeviceCount(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtGetRunMode(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtCreateContext(nullptr, 0), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtDestroyContext(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtSetCurrentContext(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtGetCurrentContext(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtCreateStream(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtCreateStreamWithConfig(nullptr, 0, 0), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtDestroyStream(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtStreamQuery(nullptr, nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtCreateEvent(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtDestroyEvent(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtRecordEvent(nullptr, nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtStreamWaitEvent(nullptr, nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtResetEvent(nullptr, nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtSynchronizeEvent(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtQueryEventStatus(nullptr, nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtEventElapsedTime(nullptr, nullptr, nullptr), ACL_ERROR_INVALID_PARAM);
  size_t bytes;
  EXPECT_EQ(aclrtGetMemInfo(ACL_HBM_MEM, &bytes, nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtGetMemInfo(static_cast<aclrtMemAttr>(99), &bytes, &bytes), ACL_ERROR_INVALID_PARAM);
}

TEST_F(Runtime, Messages_NameTheFunctionThatWasCalled) {
  constexpr uint32_t kFlag = ACL_EVENT_SYNC;
  EXPECT_EQ(aclrtCreateEvent(nullptr), ACL_ERROR_INVALID_PARAM);
  expect_message("aclrtCreateEvent: ", "event", "null");
  EXPECT_EQ(aclrtCreateEventWithFlag(nullptr, kFlag), ACL_ERROR_INVALID_PARAM);
  expect_message("aclrtCreateEventWithFlag: ", "event", "null");
  EXPECT_EQ(aclrtCreateEventExWithFlag(nullptr, kFlag), ACL_ERROR_INVALID_PARAM);
  expect_message("aclrtCreateEventExWithFlag: ", "event", "null");
  EXPECT_EQ(aclrtCreateStreamWithConfig(nullptr, 0, 0), ACL_ERROR_INVALID_PARAM);
  expect_message("aclrtCreateStreamWithConfig: ", "stream", "null");
  EXPECT_EQ(aclrtMallocAlign32(nullptr, 8, ACL_MEM_MALLOC_HUGE_FIRST), ACL_ERROR_INVALID_PARAM);
  expect_message("aclrtMallocAlign32: ", "", "null");
}

TEST_F(Runtime, ThreadWithoutContext_Gets107002) {
  std::thread([] {
    aclrtStream stream = nullptr;
    aclrtEvent event = nullptr;
    void* memory = nullptr;
    int32_t device;
    aclrtContext context;
    char byte[1];
    EXPECT_EQ(aclrtCreateStream(&stream), ACL_ERROR_RT_CONTEXT_NULL);
    expect_message("aclrtCreateStream", "context", "none");
    EXPECT_EQ(aclrtCreateEvent(&event), ACL_ERROR_RT_CONTEXT_NULL);
    EXPECT_EQ(aclrtMalloc(&memory, 8, ACL_MEM_MALLOC_HUGE_FIRST), ACL_ERROR_RT_CONTEXT_NULL);
    EXPECT_EQ(aclrtMallocHost(&memory, 8), ACL_ERROR_RT_CONTEXT_NULL);
    EXPECT_EQ(aclrtGetDevice(&device), ACL_ERROR_RT_CONTEXT_NULL);
    EXPECT_EQ(aclrtGetCurrentContext(&context), ACL_ERROR_RT_CONTEXT_NULL);
    EXPECT_EQ(aclrtSynchronizeDevice(), ACL_ERROR_RT_CONTEXT_NULL);
    EXPECT_EQ(aclrtSynchronizeStream(nullptr), ACL_ERROR_RT_CONTEXT_NULL);
    EXPECT_EQ(aclrtMemcpy(byte, 1, byte, 1, ACL_MEMCPY_HOST_TO_HOST), ACL_ERROR_RT_CONTEXT_NULL);
    EXPECT_EQ(aclrtMemset(byte, 1, 0, 1), ACL_ERROR_RT_CONTEXT_NULL);
  }).join();
}

TEST_F(Runtime, DestroyedContext_Is107002ForItsThread) {
  aclrtContext before, own, now;
  ASSERT_EQ(aclrtGetCurrentContext(&before), ACL_SUCCESS);
  ASSERT_EQ(aclrtCreateContext(&own, 0), ACL_SUCCESS);
  ASSERT_EQ(aclrtGetCurrentContext(&now), ACL_SUCCESS);
  EXPECT_EQ(now, own);
  std::thread([own] { EXPECT_EQ(aclrtDestroyContext(own), ACL_SUCCESS); }).join();
  aclrtStream stream;
  EXPECT_EQ(aclrtCreateStream(&stream), ACL_ERROR_RT_CONTEXT_NULL);
  expect_message("aclrtCreateStream", "context", "destroyed");
  EXPECT_EQ(aclrtSetCurrentContext(own), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtDestroyContext(own), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtSetCurrentContext(before), ACL_SUCCESS);
  EXPECT_EQ(aclrtCreateStream(&stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyStream(stream), ACL_SUCCESS);
}

TEST_F(Runtime, DefaultContext_CannotBeDestroyed) {
  aclrtContext context;
  ASSERT_EQ(aclrtGetCurrentContext(&context), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyContext(context), ACL_ERROR_RT_CONTEXT_NULL);
  expect_message("aclrtDestroyContext", "context", "default context");
  cann::Stream stream;
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
}

TEST_F(Runtime, DeviceResetByForce_EndsAtOnce) {
  ASSERT_EQ(aclrtSetDevice(0), ACL_SUCCESS);  // the second of this thread
  aclrtStream stream;
  ASSERT_EQ(aclrtCreateStream(&stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtResetDeviceForce(1), ACL_ERROR_RT_INVALID_DEVICEID);
  EXPECT_EQ(aclrtResetDeviceForce(0), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeDevice(), ACL_ERROR_RT_CONTEXT_NULL);
  EXPECT_EQ(aclrtDestroyStream(stream), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtResetDeviceForce(0), ACL_ERROR_RT_CONTEXT_NULL);
  EXPECT_EQ(aclrtSetDevice(0), ACL_SUCCESS);  // for the fixture
}

TEST_F(Runtime, LastError_IsTheThreadsReadOnceAndOnlyTheRuntimes) {
  (void)aclrtGetLastError(ACL_RT_THREAD_LEVEL);
  EXPECT_EQ(aclrtPeekAtLastError(ACL_RT_THREAD_LEVEL), ACL_SUCCESS);
  EXPECT_EQ(aclrtSetDevice(7), ACL_ERROR_RT_INVALID_DEVICEID);
  EXPECT_EQ(aclDestroyTensor(reinterpret_cast<aclTensor*>(1)), ACLNN_ERR_PARAM_INVALID);  // not the runtime's
  std::thread([] { EXPECT_EQ(aclrtPeekAtLastError(ACL_RT_THREAD_LEVEL), ACL_SUCCESS); }).join();
  EXPECT_EQ(aclrtSynchronizeDevice(), ACL_SUCCESS);  // a success changes nothing
  EXPECT_EQ(aclrtPeekAtLastError(ACL_RT_THREAD_LEVEL), ACL_ERROR_RT_INVALID_DEVICEID);
  EXPECT_EQ(aclrtGetLastError(ACL_RT_THREAD_LEVEL), ACL_ERROR_RT_INVALID_DEVICEID);
  EXPECT_EQ(aclrtGetLastError(ACL_RT_THREAD_LEVEL), ACL_SUCCESS);
  EXPECT_EQ(aclrtGetLastError(static_cast<aclrtLastErrLevel>(3)), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtPeekAtLastError(static_cast<aclrtLastErrLevel>(3)), ACL_ERROR_RT_PARAM_INVALID);
}

TEST_F(Runtime, Settings_AcceptWhatHoldsHere) {
  int32_t major = 0, minor = 0, patch = -1;
  EXPECT_EQ(aclrtGetVersion(&major, &minor, &patch), ACL_SUCCESS);
  EXPECT_EQ(major, ACL_MAJOR_VERSION);
  EXPECT_EQ(minor, ACL_MINOR_VERSION);
  EXPECT_EQ(patch, ACL_PATCH_VERSION);
  EXPECT_EQ(aclrtGetVersion(&major, nullptr, &patch), ACL_ERROR_INVALID_PARAM);
  aclrtFloatOverflowMode mode = ACL_RT_OVERFLOW_MODE_UNDEF;
  EXPECT_EQ(aclrtSetDeviceSatMode(ACL_RT_OVERFLOW_MODE_INFNAN), ACL_SUCCESS);
  EXPECT_EQ(aclrtSetDeviceSatMode(ACL_RT_OVERFLOW_MODE_SATURATION), ACL_ERROR_RT_FEATURE_NOT_SUPPORT);
  EXPECT_EQ(aclrtSetDeviceSatMode(ACL_RT_OVERFLOW_MODE_UNDEF), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtGetDeviceSatMode(&mode), ACL_SUCCESS);
  EXPECT_EQ(mode, ACL_RT_OVERFLOW_MODE_INFNAN);
  cann::Stream stream;
  EXPECT_EQ(aclrtSetStreamFailureMode(stream, ACL_CONTINUE_ON_FAILURE), ACL_SUCCESS);
  EXPECT_EQ(aclrtSetStreamFailureMode(stream, ACL_STOP_ON_FAILURE), ACL_ERROR_RT_FEATURE_NOT_SUPPORT);
  EXPECT_EQ(aclrtSetStreamFailureMode(&stream, 0), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtSetOpWaitTimeout(3), ACL_SUCCESS);
  EXPECT_EQ(aclrtSetOpExecuteTimeOut(3), ACL_SUCCESS);
  EXPECT_EQ(aclrtSetOpExecuteTimeOutWithMs(3), ACL_SUCCESS);
  uint64_t actual = 0;
  EXPECT_EQ(aclrtSetOpExecuteTimeOutV2(17, &actual), ACL_SUCCESS);
  EXPECT_EQ(actual, 17u);
  EXPECT_EQ(aclrtSetOpExecuteTimeOutV2(17, nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtGetOpTimeOutInterval(&actual), ACL_SUCCESS);
  EXPECT_EQ(aclrtGetOpTimeOutInterval(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtSynchronizeDeviceWithTimeout(-2), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtSynchronizeDeviceWithTimeout(100), ACL_SUCCESS);
}

TEST(Profile, Marks_AreAccepted) {
  EXPECT_EQ(aclprofStr2Id("a"), aclprofStr2Id("a"));
  EXPECT_NE(aclprofStr2Id("a"), aclprofStr2Id("b"));
  EXPECT_EQ(aclprofStr2Id(nullptr), 0u);
  aclprofEventAttributes attributes{};
  EXPECT_EQ(aclprofRangePushEx(&attributes), ACL_SUCCESS);
  EXPECT_EQ(aclprofRangePushEx(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclprofRangePop(), ACL_SUCCESS);
}

TEST_F(Runtime, ContextDestroyed_TakesItsStreamsWithIt) {
  aclrtContext before, own;
  aclrtStream stream;
  ASSERT_EQ(aclrtGetCurrentContext(&before), ACL_SUCCESS);
  ASSERT_EQ(aclrtCreateContext(&own, 0), ACL_SUCCESS);
  ASSERT_EQ(aclrtCreateStream(&stream), ACL_SUCCESS);
  EXPECT_EQ(aclrtDestroyContext(own), ACL_SUCCESS);
  EXPECT_EQ(aclrtSetCurrentContext(before), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtDestroyStream(stream), ACL_ERROR_RT_PARAM_INVALID);
}

TEST_F(Runtime, StreamOfAnotherContext_Is107003) {
  aclrtContext before, own;
  ASSERT_EQ(aclrtGetCurrentContext(&before), ACL_SUCCESS);
  cann::Stream stream;
  ASSERT_EQ(aclrtCreateContext(&own, 0), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_ERROR_RT_STREAM_CONTEXT);
  expect_message("aclrtSynchronizeStream", "stream", "0x");
  char byte[1] = {};
  EXPECT_EQ(aclrtMemsetAsync(byte, 1, 1, 1, stream), ACL_ERROR_RT_STREAM_CONTEXT);
  EXPECT_EQ(aclrtDestroyContext(own), ACL_SUCCESS);
  EXPECT_EQ(aclrtSetCurrentContext(before), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
}

TEST_F(Runtime, ResetInOneThread_LeavesTheOthersTheirContext) {
  std::thread([] {
    EXPECT_EQ(aclrtSetDevice(0), ACL_SUCCESS);
    EXPECT_EQ(aclrtResetDevice(0), ACL_SUCCESS);
    aclrtStream stream;
    EXPECT_EQ(aclrtCreateStream(&stream), ACL_ERROR_RT_CONTEXT_NULL);
  }).join();
  cann::Stream stream;
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
}

TEST_F(Runtime, Malloc_IsAlignedAndFreedOnce) {
  for (const size_t size : {size_t{1}, size_t{63}, size_t{4096}, size_t{2} << 20, (size_t{5} << 20) + 3}) {
    for (int policy = 0; policy <= 7; ++policy) {
      void* memory = nullptr;
      ASSERT_EQ(aclrtMalloc(&memory, size, static_cast<aclrtMemMallocPolicy>(policy)), ACL_SUCCESS);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 64, 0u);
      std::memset(memory, 1, size);
      EXPECT_EQ(aclrtFreeHost(memory), ACL_ERROR_RT_PARAM_INVALID);
      EXPECT_EQ(aclrtFree(memory), ACL_SUCCESS);
      EXPECT_EQ(aclrtFree(memory), ACL_ERROR_RT_PARAM_INVALID);
    }
  }
  void* memory = nullptr;
  ASSERT_EQ(aclrtMallocAlign32(&memory, 8, ACL_MEM_MALLOC_NORMAL_ONLY), ACL_SUCCESS);
  EXPECT_EQ(aclrtFree(memory), ACL_SUCCESS);
  ASSERT_EQ(aclrtMallocHost(&memory, 8), ACL_SUCCESS);
  EXPECT_EQ(aclrtFree(memory), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtFreeHost(memory), ACL_SUCCESS);
}

TEST_F(Runtime, MallocMisuse_HasItsCode) {
  void* memory = &memory;
  EXPECT_EQ(aclrtMalloc(nullptr, 8, ACL_MEM_MALLOC_HUGE_FIRST), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtMalloc(&memory, 0, ACL_MEM_MALLOC_HUGE_FIRST), ACL_ERROR_INVALID_PARAM);
  expect_message("aclrtMalloc", "size", "0");
  EXPECT_EQ(aclrtMalloc(&memory, 8, static_cast<aclrtMemMallocPolicy>(8)), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtMallocHost(&memory, 0), ACL_ERROR_INVALID_PARAM);
  for (const size_t size : {SIZE_MAX, SIZE_MAX / 2, size_t{1} << 50}) {
    EXPECT_EQ(aclrtMalloc(&memory, size, ACL_MEM_MALLOC_HUGE_FIRST), ACL_ERROR_RT_MEMORY_ALLOCATION);
    EXPECT_NE(cann::message().find(std::to_string(size)), std::string::npos);
  }
  EXPECT_EQ(memory, &memory);  // failures leave it unchanged
  EXPECT_EQ(aclrtFree(nullptr), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtFree(&memory), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtFreeHost(nullptr), ACL_ERROR_INVALID_PARAM);
}

TEST_F(Runtime, CopyAndFill_DoAndRefuse) {
  char from[8] = "mseloss", to[8] = {};
  for (int kind = 0; kind <= 7; ++kind) {
    std::memset(to, 0, 8);
    EXPECT_EQ(aclrtMemcpy(to, 8, from, 8, static_cast<aclrtMemcpyKind>(kind)), ACL_SUCCESS);
    EXPECT_STREQ(to, from);
  }
  for (const int kind : {-1, 8}) {
    EXPECT_EQ(aclrtMemcpy(to, 8, from, 8, static_cast<aclrtMemcpyKind>(kind)), ACL_ERROR_INVALID_PARAM);
    expect_message("aclrtMemcpy", "kind", std::to_string(kind));
    EXPECT_EQ(aclrtMemcpyAsync(to, 8, from, 8, static_cast<aclrtMemcpyKind>(kind), nullptr),
              ACL_ERROR_INVALID_PARAM);
  }
  EXPECT_EQ(aclrtMemcpy(nullptr, 8, from, 8, ACL_MEMCPY_DEFAULT), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtMemcpy(to, 8, nullptr, 8, ACL_MEMCPY_DEFAULT), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtMemcpy(to, 7, from, 8, ACL_MEMCPY_DEFAULT), ACL_ERROR_RT_PARAM_INVALID);
  expect_message("aclrtMemcpy", "destMax", "8");
  EXPECT_EQ(aclrtMemcpy(to, 0, from, 0, ACL_MEMCPY_DEFAULT), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemcpyAsync(to, 8, from, 0, ACL_MEMCPY_DEFAULT, nullptr), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemset(to, 8, 'x', 7), ACL_SUCCESS);
  EXPECT_STREQ(to, "xxxxxxx");
  EXPECT_EQ(aclrtMemset(nullptr, 8, 0, 8), ACL_ERROR_INVALID_PARAM);
  EXPECT_EQ(aclrtMemset(to, 7, 0, 8), ACL_ERROR_RT_PARAM_INVALID);
  EXPECT_EQ(aclrtMemset(to, 0, 0, 0), ACL_SUCCESS);
  EXPECT_EQ(aclrtMemsetAsync(to, 7, 0, 8, nullptr), ACL_ERROR_RT_PARAM_INVALID);
}

TEST_F(Runtime, MemInfo_IsTheMachines) {
  size_t free = 0, total = 0;
  EXPECT_EQ(aclrtGetMemInfo(ACL_HBM_MEM, &free, &total), ACL_SUCCESS);
  EXPECT_GT(free, 0u);
  EXPECT_GE(total, free);
}

TEST(Values, Float16_ConvertsBothWaysForEveryPattern) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<aclFloat16>(bits);
    if ((half & 0x7c00) == 0x7c00 && (half & 0x3ff) != 0) continue;  // NaN
    EXPECT_EQ(aclFloatToFloat16(aclFloat16ToFloat(half)), half);
  }
  EXPECT_EQ(aclFloatToFloat16(1.0f + 0x1p-11f), 0x3c00);  // a tie, to even
  EXPECT_EQ(aclFloatToFloat16(65520.0f), 0x7c00);
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    ASSERT_EQ(std::fesetround(mode), 0);
    const aclFloat16 above_one = aclFloatToFloat16(1.0f + 0x1p-11f), last = aclFloatToFloat16(65519.0f);
    const int after = std::fegetround();
    std::fesetround(FE_TONEAREST);
    EXPECT_EQ(after, mode);
    EXPECT_EQ(above_one, 0x3c00);
    EXPECT_EQ(last, 0x7bff);
  }
  EXPECT_EQ(aclFloat16ToFloat(0x0001), 0x1p-24f);
}

TEST(Values, DataTypeSize_IsInBytes) {
  EXPECT_EQ(aclDataTypeSize(ACL_FLOAT), 4u);
  EXPECT_EQ(aclDataTypeSize(ACL_FLOAT16), 2u);
  EXPECT_EQ(aclDataTypeSize(ACL_BF16), 2u);
  EXPECT_EQ(aclDataTypeSize(ACL_DOUBLE), 8u);
  EXPECT_EQ(aclDataTypeSize(ACL_COMPLEX128), 16u);
  EXPECT_EQ(aclDataTypeSize(ACL_BOOL), 1u);
  EXPECT_EQ(aclDataTypeSize(ACL_DT_UNDEFINED), 0u);
}

}  // namespace
