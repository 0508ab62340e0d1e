#include "acl/runtime.h"

namespace mseloss::acl {

constinit Events events;

// Leaked on purpose: workers may still wait here while the process exits.
Progress& progress() noexcept {
  alignas(Progress) static unsigned char memory[sizeof(Progress)];
  static Progress& the = *new (memory) Progress;
  return the;
}

namespace {

uint64_t request(Event& event) noexcept {
  const std::lock_guard lock(progress().mutex);
  event.armed = true;
  return ++event.requested;
}

void complete(Event& event, uint64_t number) noexcept {
  const std::lock_guard lock(progress().mutex);
  if (number > event.completed) {
    event.completed = number;
    event.stamp = std::chrono::steady_clock::now();
  }
  progress().changed.notify_all();
}

struct RecordTask final : Task {
  explicit RecordTask(Events::Pin pin) noexcept : recorded(std::move(pin)) {}
  aclError run() noexcept override {
    complete(*recorded, record);
    return ACL_SUCCESS;
  }
  void abandon() noexcept override { complete(*recorded, record); }  // nobody may wait for ever
  const Events::Pin recorded;
  uint64_t record = 0;
};

struct WaitTask final : Task {
  WaitTask(Events::Pin pin, uint64_t n) noexcept : awaited(std::move(pin)) {
    event = &*awaited;
    number = n;
  }
  aclError run() noexcept override { return ACL_SUCCESS; }
  const Events::Pin awaited;
};

aclError find_event(const char* function, const char* parameter, aclrtEvent handle,
                    Events::Pin* event) noexcept {
  if (handle == nullptr) return fail(ACL_ERROR_INVALID_PARAM, "%s: %s: got null", function, parameter);
  *event = events.acquire(handle);
  if (*event) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: %s: expected a live event, got %p", function, parameter,
              handle);
}

aclError find_both(const char* function, aclrtEvent event_handle, aclrtStream stream_handle,
                   Events::Pin* event, Streams::Pin* stream) noexcept {
  if (const aclError code = find_event(function, "event", event_handle, event); code != ACL_SUCCESS) {
    return code;
  }
  return find_stream(function, stream_handle, stream);
}

aclError no_memory(const char* function) noexcept {
  return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "%s: out of memory", function);
}

aclError queued(const char* function, aclError code) noexcept {
  if (code == ACL_SUCCESS) return code;
  return fail(code, "%s: the stream could not take the work: %s", function,
              code == ACL_ERROR_RT_MEMORY_ALLOCATION ? "out of memory" : "it is being destroyed");
}

aclError synchronize(const char* function, aclrtEvent handle, int32_t timeout) noexcept {
  Events::Pin event;
  if (const aclError code = find_event(function, "event", handle, &event); code != ACL_SUCCESS) return code;
  std::unique_lock lock(progress().mutex);
  const auto passed = [&event = *event, number = event->awaited()] { return event.passed(number); };
  if (timeout < 0) {
    progress().changed.wait(lock, passed);
  } else if (!progress().changed.wait_for(lock, std::chrono::milliseconds(timeout), passed)) {
    return fail(ACL_ERROR_RT_EVENT_SYNC_TIMEOUT, "%s: expected the event within %d ms, got none", function,
                timeout);
  }
  return ACL_SUCCESS;
}

}  // namespace
}  // namespace mseloss::acl

using namespace mseloss::acl;

aclError aclrtCreateEvent(aclrtEvent* event) {
  return aclrtCreateEventWithFlag(event, ACL_EVENT_SYNC | ACL_EVENT_TIME_LINE);
}

aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t flag) {
  constexpr uint32_t kKnown = ACL_EVENT_SYNC | ACL_EVENT_TIME_LINE;
  if (event == nullptr) return fail(ACL_ERROR_INVALID_PARAM, "aclrtCreateEvent: event: got null");
  if (flag == 0 || (flag & ~kKnown) != 0) {
    return fail(ACL_ERROR_RT_PARAM_INVALID,
                "%s: flag: expected ACL_EVENT_SYNC, ACL_EVENT_TIME_LINE or both, got 0x%x", __func__, flag);
  }
  if (const aclError code = need_context("aclrtCreateEvent"); code != ACL_SUCCESS) return code;
  void* handle = events.insert();
  if (handle == nullptr) return no_memory("aclrtCreateEvent");
  *event = handle;
  return ACL_SUCCESS;
}

aclError aclrtDestroyEvent(aclrtEvent event) {
  Events::Pin pin;
  if (const aclError code = find_event(__func__, "event", event, &pin); code != ACL_SUCCESS) return code;
  if (!events.retire(event)) return find_event(__func__, "event", event, &pin);
  const std::lock_guard lock(progress().mutex);
  pin->destroyed = true;
  progress().changed.notify_all();
  return ACL_SUCCESS;
}

aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
  Events::Pin pin;
  Streams::Pin on;
  if (const aclError code = find_both(__func__, event, stream, &pin, &on); code != ACL_SUCCESS) return code;
  const std::lock_guard lock(on->mutex);
  if (on->head == nullptr) {
    complete(*pin, request(*pin));
    return ACL_SUCCESS;
  }
  auto* task = new (std::nothrow) RecordTask(std::move(pin));
  if (task == nullptr) return no_memory(__func__);
  task->record = request(*task->recorded);
  return queued(__func__, enqueue(on, task));
}

aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
  Events::Pin pin;
  Streams::Pin on;
  if (const aclError code = find_both(__func__, event, stream, &pin, &on); code != ACL_SUCCESS) return code;
  const std::lock_guard lock(on->mutex);
  uint64_t number;
  {
    const std::lock_guard event_lock(progress().mutex);
    number = pin->awaited();
    if (pin->passed(number)) return ACL_SUCCESS;
  }
  auto* task = new (std::nothrow) WaitTask(std::move(pin), number);
  if (task == nullptr) return no_memory(__func__);
  return queued(__func__, enqueue(on, task));
}

// Takes effect in the order of calls: waits asked for before keep the record they were asked for.
aclError aclrtResetEvent(aclrtEvent event, aclrtStream stream) {
  Events::Pin pin;
  Streams::Pin on;
  if (const aclError code = find_both(__func__, event, stream, &pin, &on); code != ACL_SUCCESS) return code;
  const std::lock_guard lock(progress().mutex);
  pin->armed = false;
  return ACL_SUCCESS;
}

aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status) {
  if (status == nullptr) return fail(ACL_ERROR_INVALID_PARAM, "%s: status: got null", __func__);
  Events::Pin pin;
  if (const aclError code = find_event(__func__, "event", event, &pin); code != ACL_SUCCESS) return code;
  const std::lock_guard lock(progress().mutex);
  *status = pin->recorded() ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
  return ACL_SUCCESS;
}

aclError aclrtSynchronizeEvent(aclrtEvent event) { return synchronize(__func__, event, -1); }

aclError aclrtSynchronizeEventWithTimeout(aclrtEvent event, int32_t timeout) {
  if (timeout < -1) {
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: timeout: expected -1 or milliseconds, got %d", __func__,
                timeout);
  }
  return synchronize(__func__, event, timeout);
}

aclError aclrtEventElapsedTime(float* ms, aclrtEvent startEvent, aclrtEvent endEvent) {
  if (ms == nullptr) return fail(ACL_ERROR_INVALID_PARAM, "%s: ms: got null", __func__);
  Events::Pin start, end;
  if (const aclError code = find_event(__func__, "startEvent", startEvent, &start); code != ACL_SUCCESS) {
    return code;
  }
  if (const aclError code = find_event(__func__, "endEvent", endEvent, &end); code != ACL_SUCCESS)
    return code;
  const std::lock_guard lock(progress().mutex);
  if (!start->recorded() || !end->recorded()) {
    return fail(ACL_ERROR_RT_PARAM_INVALID,
                "%s: %s: expected an event that has been recorded, got one that has not", __func__,
                start->recorded() ? "endEvent" : "startEvent");
  }
  *ms = std::chrono::duration<float, std::milli>(end->stamp - start->stamp).count();
  return ACL_SUCCESS;
}
