// Events. The lock of event_monitor() guards every Event.
#include "acl/runtime.h"

namespace mseloss::acl {

constinit Events events;

// Never destroyed: workers may still wait on it while the process exits.
EventMonitor& event_monitor() noexcept {
  alignas(EventMonitor) static unsigned char memory[sizeof(EventMonitor)];
  static EventMonitor& the = *new (memory) EventMonitor;
  return the;
}

namespace {

// Returns the number of the new record.
uint64_t begin_record(Event& event) noexcept {
  const std::lock_guard lock(event_monitor().mutex);
  event.armed = true;
  return ++event.requested;
}

void complete_record(Event& event, uint64_t number) noexcept {
  const std::lock_guard lock(event_monitor().mutex);
  if (number > event.completed) {
    event.completed = number;
    event.completed_at = std::chrono::steady_clock::now();
  }
  event_monitor().changed.notify_all();
}

struct RecordTask final : Task {
  explicit RecordTask(Events::Pin pin) noexcept : recorded(std::move(pin)) {}
  aclError run() noexcept override {
    complete_record(*recorded, record);
    return ACL_SUCCESS;
  }
  // Marks the record as complete, so that its waiters return.
  void abandon() noexcept override { complete_record(*recorded, record); }
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
  if (handle == nullptr) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: %s: expected a created event, got null", function, parameter);
  }
  *event = events.acquire(handle);
  if (*event) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: %s: expected a live event, got %p", function, parameter,
              handle);
}

aclError find_both(const char* function, aclrtEvent event_handle, aclrtStream stream_handle,
                   Events::Pin* event, Streams::Pin* stream) noexcept {
  if (const aclError code = find_event(function, "event", event_handle, event)) return code;
  return find_stream(function, stream_handle, stream);
}

// `timeout` in milliseconds; -1 waits without limit.
aclError synchronize(const char* function, aclrtEvent handle, int32_t timeout) noexcept {
  if (const aclError code = check_timeout(function, timeout)) return code;
  Events::Pin event;
  if (const aclError code = find_event(function, "event", handle, &event)) return code;
  std::unique_lock lock(event_monitor().mutex);
  const auto passed = [&event = *event, number = event->record_to_await()] {
    return event.completed_record(number);
  };
  if (!wait_for(event_monitor().changed, lock, timeout, passed)) {
    return fail(ACL_ERROR_RT_EVENT_SYNC_TIMEOUT, "%s: expected the event within %d ms, got none", function,
                timeout);
  }
  return ACL_SUCCESS;
}

constexpr uint32_t kEventFlags = ACL_EVENT_SYNC | ACL_EVENT_TIME_LINE;

aclError create_event(const char* function, aclrtEvent* event, uint32_t flag) {
  if (const aclError code = check_not_null(function, "event", event)) return code;
  if (flag == 0 || (flag & ~kEventFlags) != 0) {
    return fail(ACL_ERROR_RT_PARAM_INVALID,
                "%s: flag: expected ACL_EVENT_SYNC, ACL_EVENT_TIME_LINE or both, got 0x%x", function, flag);
  }
  if (const aclError code = check_context(function)) return code;
  void* handle = events.insert();
  if (handle == nullptr) return out_of_memory(function);
  *event = handle;
  return ACL_SUCCESS;
}

}  // namespace
}  // namespace mseloss::acl

using namespace mseloss::acl;

aclError aclrtCreateEvent(aclrtEvent* event) { return create_event(__func__, event, kEventFlags); }

aclError aclrtCreateEventWithFlag(aclrtEvent* event, uint32_t flag) {
  return create_event(__func__, event, flag);
}

// CANN's variant for events that are reset by their next record, as all are here.
aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t flag) {
  return create_event(__func__, event, flag);
}

aclError aclrtDestroyEvent(aclrtEvent event) {
  Events::Pin pin;
  if (const aclError code = find_event(__func__, "event", event, &pin)) return code;
  if (!events.retire(event)) return find_event(__func__, "event", event, &pin);
  const std::lock_guard lock(event_monitor().mutex);
  pin->destroyed = true;
  event_monitor().changed.notify_all();
  return ACL_SUCCESS;
}

aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
  Events::Pin pin;
  Streams::Pin on;
  if (const aclError code = find_both(__func__, event, stream, &pin, &on)) return code;
  const std::lock_guard lock(on->mutex);
  if (on->head == nullptr) {
    complete_record(*pin, begin_record(*pin));
    return ACL_SUCCESS;
  }
  auto* task = new (std::nothrow) RecordTask(std::move(pin));
  if (task == nullptr) return out_of_memory(__func__);
  task->record = begin_record(*task->recorded);
  return report_enqueue(__func__, enqueue(on, task));
}

aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
  Events::Pin pin;
  Streams::Pin on;
  if (const aclError code = find_both(__func__, event, stream, &pin, &on)) return code;
  const std::lock_guard lock(on->mutex);
  uint64_t number;
  {
    const std::lock_guard event_lock(event_monitor().mutex);
    number = pin->record_to_await();
    if (pin->completed_record(number)) return ACL_SUCCESS;
  }
  auto* task = new (std::nothrow) WaitTask(std::move(pin), number);
  if (task == nullptr) return out_of_memory(__func__);
  return report_enqueue(__func__, enqueue(on, task));
}

// Takes effect immediately, not in the order of the stream. Waits issued earlier still wait for the record
// they were issued for.
aclError aclrtResetEvent(aclrtEvent event, aclrtStream stream) {
  Events::Pin pin;
  Streams::Pin on;
  if (const aclError code = find_both(__func__, event, stream, &pin, &on)) return code;
  const std::lock_guard lock(event_monitor().mutex);
  pin->armed = false;
  return ACL_SUCCESS;
}

aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus* status) {
  if (const aclError code = check_not_null(__func__, "status", status)) return code;
  Events::Pin pin;
  if (const aclError code = find_event(__func__, "event", event, &pin)) return code;
  const std::lock_guard lock(event_monitor().mutex);
  *status = pin->recorded() ? ACL_EVENT_RECORDED_STATUS_COMPLETE : ACL_EVENT_RECORDED_STATUS_NOT_READY;
  return ACL_SUCCESS;
}

aclError aclrtSynchronizeEvent(aclrtEvent event) { return synchronize(__func__, event, -1); }

aclError aclrtSynchronizeEventWithTimeout(aclrtEvent event, int32_t timeout) {
  return synchronize(__func__, event, timeout);
}

aclError aclrtEventElapsedTime(float* ms, aclrtEvent startEvent, aclrtEvent endEvent) {
  if (const aclError code = check_not_null(__func__, "ms", ms)) return code;
  Events::Pin start, end;
  if (const aclError code = find_event(__func__, "startEvent", startEvent, &start)) return code;
  if (const aclError code = find_event(__func__, "endEvent", endEvent, &end)) return code;
  const std::lock_guard lock(event_monitor().mutex);
  if (!start->recorded() || !end->recorded()) {
    return fail(ACL_ERROR_RT_PARAM_INVALID,
                "%s: %s: expected an event that has been recorded, got one that has not", __func__,
                start->recorded() ? "endEvent" : "startEvent");
  }
  *ms = std::chrono::duration<float, std::milli>(end->completed_at - start->completed_at).count();
  return ACL_SUCCESS;
}
