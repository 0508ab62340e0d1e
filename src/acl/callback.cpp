// Callbacks that a thread of the caller runs for a stream. The lock of event_monitor() guards the
// subscribers, their queues and Stream::subscriber.
#include <memory>

#include "acl/runtime.h"

namespace mseloss::acl {

struct Callback {
  Callback(aclrtCallback f, void* d) noexcept : function(f), data(d) {}
  const aclrtCallback function;
  void* const data;
  enum class State : uint8_t { kQueued, kRunning, kDone } state = State::kQueued;
  bool awaited = false;  // its stream waits for it and deletes it
  Callback* next = nullptr;
};

// A thread that runs callbacks in aclrtProcessReport.
struct Subscriber {
  explicit Subscriber(uint64_t id) noexcept : thread(id) {}
  const uint64_t thread;
  int64_t streams = 0;
  int processing = 0;  // aclrtProcessReport calls in progress; the last one deletes it if it has no streams
  Callback* head = nullptr;
  Callback* tail = nullptr;
  Subscriber* next = nullptr;
};

namespace {

constinit Subscriber* g_subscribers = nullptr;

uint64_t this_thread() noexcept { return static_cast<uint64_t>(pthread_self()); }

Subscriber* find_subscriber(uint64_t thread) noexcept {
  Subscriber* subscriber = g_subscribers;
  while (subscriber != nullptr && (subscriber->thread != thread || subscriber->streams == 0)) {
    subscriber = subscriber->next;
  }
  return subscriber;
}

void push(Subscriber& subscriber, Callback* callback) noexcept {
  (subscriber.tail != nullptr ? subscriber.tail->next : subscriber.head) = callback;
  subscriber.tail = callback;
}

Callback* pop(Subscriber& subscriber) noexcept {
  Callback* callback = subscriber.head;
  subscriber.head = callback->next;
  if (subscriber.head == nullptr) subscriber.tail = nullptr;
  return callback;
}

void finish(Callback* callback) noexcept {
  if (callback->awaited) {
    callback->state = Callback::State::kDone;
  } else {
    delete callback;
  }
}

void remove(Subscriber* subscriber) noexcept {
  Subscriber** link = &g_subscribers;
  while (*link != subscriber) link = &(*link)->next;
  *link = subscriber->next;
  delete subscriber;
}

// Takes the stream from its subscriber. Without streams a subscriber ends and drops its callbacks.
void unsubscribe(Stream& stream) noexcept {
  Subscriber* subscriber = std::exchange(stream.subscriber, nullptr);
  if (--subscriber->streams != 0) return;
  while (subscriber->head != nullptr) finish(pop(*subscriber));
  if (subscriber->processing == 0) remove(subscriber);
  event_monitor().changed.notify_all();
}

struct CallbackTask final : Task {
  CallbackTask(Stream* s, std::unique_ptr<Callback> c, bool block) noexcept
      : stream(s), callback(std::move(c)) {
    callback->awaited = waits = block;
  }
  aclError run() noexcept override {
    std::unique_lock lock(event_monitor().mutex);
    if (stream->subscriber == nullptr) return ACL_SUCCESS;  // unsubscribed since: the callback is dropped
    Subscriber& subscriber = *stream->subscriber;
    push(subscriber, waits ? callback.get() : callback.release());
    event_monitor().changed.notify_all();
    if (!waits) return ACL_SUCCESS;
    event_monitor().changed.wait(lock, [&] {
      return callback->state == Callback::State::kDone ||
             (stream->closing && callback->state == Callback::State::kQueued);
    });
    if (callback->state == Callback::State::kQueued) withdraw(subscriber);
    return ACL_SUCCESS;
  }

 private:
  void withdraw(Subscriber& subscriber) noexcept {
    Callback *previous = nullptr, *at = subscriber.head;
    for (; at != callback.get(); at = at->next) previous = at;
    (previous != nullptr ? previous->next : subscriber.head) = at->next;
    if (subscriber.tail == at) subscriber.tail = previous;
  }

  Stream* const stream;
  std::unique_ptr<Callback> callback;
};

}  // namespace

bool has_callbacks_for_this_thread(const Stream& stream) noexcept {
  const std::lock_guard lock(event_monitor().mutex);
  return stream.subscriber != nullptr && stream.subscriber->thread == this_thread();
}

void end_subscription(Stream& stream) noexcept {
  const std::lock_guard lock(event_monitor().mutex);
  if (stream.subscriber != nullptr) unsubscribe(stream);
}

}  // namespace mseloss::acl

using namespace mseloss::acl;

aclError aclrtSubscribeReport(uint64_t threadId, aclrtStream stream) {
  Streams::Pin on;
  if (const aclError code = find_stream(__func__, stream, &on)) return code;
  const std::lock_guard lock(event_monitor().mutex);
  if (on->subscriber != nullptr) {
    return fail(ACL_ERROR_RT_STREAM_SUBSCRIBE,
                "%s: stream: expected a stream without a subscribed thread, got one with thread %llu",
                __func__, static_cast<unsigned long long>(on->subscriber->thread));
  }
  Subscriber* subscriber = find_subscriber(threadId);
  if (subscriber == nullptr) {
    subscriber = new (std::nothrow) Subscriber(threadId);
    if (subscriber == nullptr) return out_of_memory(__func__);
    subscriber->next = std::exchange(g_subscribers, subscriber);
  }
  on->subscriber = subscriber;
  ++subscriber->streams;
  return ACL_SUCCESS;
}

aclError aclrtUnSubscribeReport(uint64_t threadId, aclrtStream stream) {
  Streams::Pin on;
  if (const aclError code = find_stream(__func__, stream, &on)) return code;
  const std::lock_guard lock(event_monitor().mutex);
  if (on->subscriber == nullptr) {
    return fail(ACL_ERROR_RT_STREAM_SUBSCRIBE,
                "%s: stream: expected a subscribed one, got one without a thread", __func__);
  }
  if (on->subscriber->thread != threadId) {
    return fail(ACL_ERROR_RT_THREAD_SUBSCRIBE, "%s: threadId: expected the stream's thread, %llu, got %llu",
                __func__, static_cast<unsigned long long>(on->subscriber->thread),
                static_cast<unsigned long long>(threadId));
  }
  unsubscribe(*on);
  return ACL_SUCCESS;
}

aclError aclrtLaunchCallback(aclrtCallback fn, void* userData, aclrtCallbackBlockType blockType,
                             aclrtStream stream) {
  if (blockType != ACL_CALLBACK_NO_BLOCK && blockType != ACL_CALLBACK_BLOCK) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: blockType: expected 0 or 1, got %d", __func__,
                static_cast<int>(blockType));
  }
  if (fn == nullptr)
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: fn: expected an address, got null", __func__);
  Streams::Pin on;
  if (const aclError code = find_stream(__func__, stream, &on)) return code;
  {
    const std::lock_guard lock(event_monitor().mutex);
    if (on->subscriber == nullptr) {
      return fail(ACL_ERROR_RT_STREAM_NO_CB_REG,
                  "%s: stream: expected aclrtSubscribeReport before, got no such call", __func__);
    }
  }
  std::unique_ptr<Callback> callback(new (std::nothrow) Callback(fn, userData));
  Task* task = callback == nullptr
                   ? nullptr
                   : new (std::nothrow)
                         CallbackTask(&*on, std::move(callback), blockType == ACL_CALLBACK_BLOCK);
  if (task == nullptr) return out_of_memory(__func__);
  const std::lock_guard lock(on->mutex);
  return report_enqueue(__func__, enqueue(on, task));
}

aclError aclrtProcessReport(int32_t timeout) {
  if (timeout < -1 || timeout == 0) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: timeout: expected -1 or at least 1 ms, got %d", __func__,
                timeout);
  }
  std::unique_lock lock(event_monitor().mutex);
  Subscriber* subscriber = find_subscriber(this_thread());
  if (subscriber == nullptr) {
    return fail(ACL_ERROR_RT_THREAD_SUBSCRIBE,
                "%s: expected a thread that aclrtSubscribeReport named, got another", __func__);
  }
  ++subscriber->processing;
  const auto ready = [&] { return subscriber->head != nullptr || subscriber->streams == 0; };
  const bool in_time = wait_for(event_monitor().changed, lock, timeout, ready);
  while (subscriber->head != nullptr) {
    Callback* callback = pop(*subscriber);
    callback->state = Callback::State::kRunning;
    lock.unlock();
    callback->function(callback->data);
    lock.lock();
    finish(callback);
    event_monitor().changed.notify_all();
  }
  if (--subscriber->processing == 0 && subscriber->streams == 0) remove(subscriber);
  if (in_time) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_REPORT_TIMEOUT, "%s: expected a callback within %d ms, got none", __func__,
              timeout);
}

aclError aclrtLaunchHostFunc(aclrtStream stream, aclrtHostFunc fn, void* args) {
  if (fn == nullptr)
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: fn: expected an address, got null", __func__);
  Streams::Pin on;
  if (const aclError code = find_stream(__func__, stream, &on)) return code;
  return report_enqueue(__func__, submit(on, false, [=]() noexcept -> aclError {
                          fn(args);
                          return ACL_SUCCESS;
                        }));
}
