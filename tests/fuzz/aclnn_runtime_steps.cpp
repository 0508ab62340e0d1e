// Steps with streams, events, contexts, memory and callbacks.
#include <pthread.h>

#include "tests/fuzz/aclnn_machine.h"

namespace fuzz {

void Machine::create_stream() {
  aclrtStream handle = nullptr;
  const bool context = context_ != nullptr && context_->live;
  const int code = in_.below(2) == 0 ? aclrtCreateStream(&handle)
                                     : aclrtCreateStreamWithConfig(&handle, in_.byte(), in_.byte());
  expect(code, context, "aclrtCreateStream");
  if (code != 0) return;
  Slot& stream = slot(kStream);
  if (stream.live) expect(aclrtDestroyStream(stream.handle), true, "aclrtDestroyStream");
  created(kStream, stream, handle);
  stream.context = context_ == nullptr ? nullptr : context_->handle;
}

void Machine::destroy_stream() {
  Slot* stream;
  void* const handle = choose(kStream, &stream);
  const bool live = stream != nullptr && stream->live;
  // The device's default stream cannot be reached, so any live stream may be destroyed, by any thread.
  expect(in_.below(2) == 0 ? aclrtDestroyStream(handle) : aclrtDestroyStreamForce(handle), live,
         "aclrtDestroyStream");
  if (live) stream->live = false;
}

void Machine::synchronize() {
  Slot* stream;
  aclrtStream const handle = choose_stream(&stream);
  const int how = in_.below(4);
  if (how == 0 && quiet() && alone()) {
    expect(aclrtSynchronizeDevice(), context_ != nullptr && context_->live, "aclrtSynchronizeDevice");
  } else if (how == 1 && alone() && (!usable(stream) || !stream->blocked)) {
    expect(aclrtSynchronizeStream(handle), usable(stream), "aclrtSynchronizeStream");
  } else if (how == 2) {
    const int code = aclrtSynchronizeDeviceWithTimeout(in_.rarely() ? -2 : 0);
    done(code, "aclrtSynchronizeDeviceWithTimeout");
  } else {
    const int code = aclrtSynchronizeStreamWithTimeout(handle, 1);
    if (usable(stream) && stream->blocked) {
      done(code, "aclrtSynchronizeStreamWithTimeout");
      if (code == 0) stream->blocked = false;
    } else {
      expect(code, usable(stream), "aclrtSynchronizeStreamWithTimeout");
    }
  }
}

void Machine::query_stream() {
  Slot* stream;
  aclrtStream const handle = choose_stream(&stream);
  aclrtStreamStatus status;
  expect(aclrtStreamQuery(handle, &status), usable(stream), "aclrtStreamQuery");
  expect(aclrtSetStreamFailureMode(handle, ACL_CONTINUE_ON_FAILURE), usable(stream),
         "aclrtSetStreamFailureMode");
}

void Machine::create_event() {
  aclrtEvent handle = nullptr;
  const uint32_t flag = in_.rarely() ? in_.byte() : static_cast<uint32_t>(ACL_EVENT_SYNC);
  const bool known = (flag & ~(ACL_EVENT_SYNC | ACL_EVENT_TIME_LINE)) == 0 && flag != 0;
  const int code =
      in_.below(2) == 0 ? aclrtCreateEventWithFlag(&handle, flag) : aclrtCreateEventExWithFlag(&handle, flag);
  expect(code, known && context_ != nullptr && context_->live, "aclrtCreateEvent");
  if (code != 0) return;
  Slot& event = slot(kEvent);
  if (event.live) expect(aclrtDestroyEvent(event.handle), true, "aclrtDestroyEvent");
  created(kEvent, event, handle);
}

void Machine::destroy_event() {
  Slot* event;
  void* const handle = choose(kEvent, &event);
  const bool live = event != nullptr && event->live;
  expect(aclrtDestroyEvent(handle), live, "aclrtDestroyEvent");
  if (live) event->live = false;
}

void Machine::record_event() {
  Slot *event, *stream;
  void* const handle = choose(kEvent, &event);
  aclrtStream const on = choose_stream(&stream);
  const bool ok = event != nullptr && event->live && usable(stream);
  expect(aclrtRecordEvent(handle, on), ok, "aclrtRecordEvent");
  if (ok) event->recorded = !stream->blocked;
}

void Machine::wait_event() {
  Slot *event, *stream;
  void* const handle = choose(kEvent, &event);
  aclrtStream const on = choose_stream(&stream);
  const bool ok = event != nullptr && event->live && usable(stream);
  expect(aclrtStreamWaitEvent(on, handle), ok, "aclrtStreamWaitEvent");
  if (ok && !event->recorded) stream->blocked = true;
}

void Machine::reset_event() {
  Slot *event, *stream;
  void* const handle = choose(kEvent, &event);
  aclrtStream const on = choose_stream(&stream);
  const bool ok = event != nullptr && event->live && usable(stream);
  expect(aclrtResetEvent(handle, on), ok, "aclrtResetEvent");
  if (ok) event->recorded = false;
}

void Machine::query_event() {
  Slot *event, *other;
  void* const handle = choose(kEvent, &event);
  const bool live = event != nullptr && event->live;
  aclrtEventRecordedStatus status;
  const int code = aclrtQueryEventStatus(handle, &status);
  expect(code, live, "aclrtQueryEventStatus");
  if (live && event->recorded && quiet() && alone()) {
    expect(aclrtSynchronizeEvent(handle), true, "aclrtSynchronizeEvent");
  } else {
    done(aclrtSynchronizeEventWithTimeout(handle, 0), "aclrtSynchronizeEventWithTimeout");
  }
  void* const end = choose(kEvent, &other);
  float ms = 0;
  done(aclrtEventElapsedTime(&ms, handle, end), "aclrtEventElapsedTime");
}

void Machine::create_context() {
  aclrtContext handle = nullptr;
  const int device = in_.rarely() ? in_.signed_byte() : 0;
  const int code = aclrtCreateContext(&handle, device);
  expect(code, device == 0, "aclrtCreateContext");
  if (code != 0) return;
  Slot& context = slot(kContext);
  if (context.live) {
    expect(aclrtDestroyContext(context.handle), true, "aclrtDestroyContext");
    for (Slot& stream : slots_[kStream])
      if (stream.context == context.handle) stream.live = false;
  }
  created(kContext, context, handle);
  context_ = &context;
}

void Machine::destroy_context() {
  Slot* context;
  void* const handle = choose(kContext, &context);
  const bool live = context != nullptr && context->live;
  expect(aclrtDestroyContext(handle), live, "aclrtDestroyContext");
  if (!live) return;
  context->live = false;
  for (Slot& stream : slots_[kStream])
    if (stream.context == handle) stream.live = false;
  if (context_ == context) context_ = nullptr;
}

void Machine::select_context() {
  Slot* context = &default_context_;
  void* const handle = in_.below(2) == 0 ? default_context_.handle : choose(kContext, &context);
  const bool live = context != nullptr && context->live;
  const int code = aclrtSetCurrentContext(handle);
  expect(code, live, "aclrtSetCurrentContext");
  if (alone() ? live : code == 0) context_ = context;
  void* current = nullptr;
  expect(aclrtGetCurrentContext(&current), context_ != nullptr && context_->live, "aclrtGetCurrentContext");
}

void Machine::device() {
  const int device = in_.rarely() ? in_.signed_byte() : 0;
  int32_t number = -1;
  uint32_t count = 0;
  if (in_.below(2) == 0) {
    expect(aclrtSetDevice(device), device == 0, "aclrtSetDevice");
    if (device == 0) ++users_, context_ = &default_context_;
  } else if (users_ > 1) {
    const int code = aclrtResetDevice(device);
    expect(code, device == 0, "aclrtResetDevice");
    users_ -= device == 0;
    // Whether the context stays current depends on the calls of this thread; ask.
    void* current = nullptr;
    if (aclrtGetCurrentContext(&current) != ACL_SUCCESS) context_ = nullptr, (void)aclGetRecentErrMsg();
  } else if (!alone() && in_.rarely()) {
    done(aclrtResetDeviceForce(device), "aclrtResetDeviceForce");
  }
  expect(aclrtGetDevice(&number), context_ != nullptr && context_->live, "aclrtGetDevice");
  expect(aclrtGetDeviceCount(&count), true, "aclrtGetDeviceCount");
  expect(aclInit(nullptr), false, "aclInit again");
}

void Machine::allocate() {
  void* memory = nullptr;
  const int how = in_.byte();
  const size_t size = how >= 240 ? in_.word() | size_t{1} << 50 : static_cast<size_t>(how) * 9;
  const int code = aclrtMalloc(&memory, size, ACL_MEM_MALLOC_HUGE_FIRST);
  expect(code, how < 240 && size != 0 && context_ != nullptr && context_->live, "aclrtMalloc");
  if (code != 0) return;
  std::memset(memory, how, size);
  Slot& block = slot(kBlock);
  if (block.live) expect(aclrtFree(block.handle), true, "aclrtFree");
  block = {};
  block.handle = memory;
  block.live = true;
}

void Machine::free_block() {
  Slot* block;
  void* const handle = choose(kBlock, &block);
  if (block != nullptr && !block->live) {
    for (const Slot& each : slots_[kBlock])  // the address may be in use again
      if (each.live && each.handle == handle) return;
    if (!alone()) return;
  }
  const bool live = block != nullptr && block->live;
  expect(aclrtFreeHost(handle), false, "aclrtFreeHost of device memory");
  expect(aclrtFree(handle), live, "aclrtFree");
  if (live) block->live = false;
}

void Machine::copy_and_fill() {
  Slot* stream;
  aclrtStream const on = choose_stream(&stream);
  char *const to = address(), *const from = address();
  const size_t size = static_cast<size_t>(in_.byte()) * 4, room = in_.rarely() ? size / 2 : size;
  const auto kind = static_cast<aclrtMemcpyKind>(in_.rarely() ? in_.signed_byte() : in_.below(8));
  const bool valid = room >= size && kind >= 0 && kind <= 7;
  const bool null = in_.rarely(), context = context_ != nullptr && context_->live;
  const bool ok = valid && (!null || size == 0);
  void* const target = null ? nullptr : to;
  switch (in_.below(4)) {
    case 0:
      expect(aclrtMemcpyAsync(target, room, from, size, kind, on), ok && usable(stream), "aclrtMemcpyAsync");
      return;
    case 1:
      expect(aclrtMemsetAsync(target, room, 5, size, on),
             room >= size && (!null || size == 0) && usable(stream), "aclrtMemsetAsync");
      return;
    default:
      // Both wait for queued work, which may wait for a callback on this thread.
      if (blocking_callback_ || !alone()) return;
      expect(aclrtMemset(target, room, 7, size), room >= size && (!null || size == 0) && context,
             "aclrtMemset");
      expect(aclrtMemcpy(target, room, from, size, kind), ok && context, "aclrtMemcpy");
      if (ok && context && !null && quiet()) {
        const bool overlap = to < from + size && from < to + size;
        FUZZ_REQUIRE(overlap || std::memcmp(to, from, size) == 0, "aclrtMemcpy of %zu bytes", size);
      }
  }
}

void Machine::callbacks() {
  static const aclrtCallback kCount = [](void* count) { ++*static_cast<std::atomic<int>*>(count); };
  static std::atomic<int> count;
  Slot* stream;
  aclrtStream const on = choose_stream(&stream);
  const uint64_t thread = in_.rarely() ? in_.word() : static_cast<uint64_t>(pthread_self());
  switch (in_.below(4)) {
    case 0:
      done(aclrtSubscribeReport(thread, on), "aclrtSubscribeReport");
      return;
    case 1:
      done(aclrtUnSubscribeReport(thread, on), "aclrtUnSubscribeReport");
      return;
    case 2: {
      const bool block = in_.below(2) == 0;
      const int code =
          aclrtLaunchCallback(kCount, &count, block ? ACL_CALLBACK_BLOCK : ACL_CALLBACK_NO_BLOCK, on);
      done(code, "aclrtLaunchCallback");
      if (code != 0) return;
      ++callbacks_pending_;
      if (usable(stream)) stream->blocked = true;
      blocking_callback_ = blocking_callback_ || block;
      return;
    }
    default:
      if (callbacks_pending_ == 0 && in_.byte() < 200) return;
      done(aclrtProcessReport(in_.rarely() ? 0 : 1), "aclrtProcessReport");
  }
}

void Machine::host_function() {
  static const aclrtHostFunc kCount = [](void* count) { ++*static_cast<std::atomic<int>*>(count); };
  Slot* stream;
  aclrtStream const on = choose_stream(&stream);
  static std::atomic<int> count;
  const int before = count;
  const int code = aclrtLaunchHostFunc(on, in_.rarely() ? nullptr : kCount, &count);
  done(code, "aclrtLaunchHostFunc");
  if (code != 0 || !alone() || !usable(stream) || stream->blocked) return;
  expect(aclrtSynchronizeStream(on), true, "aclrtSynchronizeStream");
  FUZZ_REQUIRE(count > before, "a host function did not run");
}

void Machine::settings() {
  int32_t version[3];
  aclrtRunMode mode;
  aclrtFloatOverflowMode saturation;
  uint64_t timeout = 0;
  size_t free = 0, total = 0;
  const bool context = context_ != nullptr && context_->live;
  expect(aclrtGetVersion(version, version + 1, version + 2), true, "aclrtGetVersion");
  expect(aclrtGetRunMode(&mode), true, "aclrtGetRunMode");
  done(aclrtGetDeviceSatMode(&saturation), "aclrtGetDeviceSatMode");
  done(aclrtSetDeviceSatMode(static_cast<aclrtFloatOverflowMode>(in_.signed_byte())),
       "aclrtSetDeviceSatMode");
  done(aclrtSetOpExecuteTimeOutV2(in_.byte(), &timeout), "aclrtSetOpExecuteTimeOutV2");
  expect(aclrtGetMemInfo(ACL_HBM_MEM, &free, &total), context, "aclrtGetMemInfo");
  (void)aclrtPeekAtLastError(static_cast<aclrtLastErrLevel>(in_.byte() / 128));
  (void)aclrtGetLastError(ACL_RT_THREAD_LEVEL);
  (void)aclDataTypeSize(static_cast<aclDataType>(in_.signed_byte()));
  (void)aclFloatToFloat16(aclFloat16ToFloat(static_cast<aclFloat16>(in_.word())));
  char text[4] = {};
  text[0] = static_cast<char>(in_.byte());
  (void)aclprofStr2Id(text);
  aclprofEventAttributes attributes = {};
  done(aclprofRangePushEx(in_.rarely() ? nullptr : &attributes), "aclprofRangePushEx");
  done(aclprofRangePop(), "aclprofRangePop");
  expect(aclnnInit(nullptr), true, "aclnnInit");
  (void)aclrtGetSocName();
}

}  // namespace fuzz
