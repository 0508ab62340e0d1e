// Stream queues and their worker threads.
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "acl/runtime.h"

namespace mseloss::acl {

constinit Streams streams;

namespace {

std::atomic<uint64_t> g_serial{0};

void pop_head(Stream& stream) noexcept {
  const std::unique_ptr<Task> task(stream.head);
  if (task->next == nullptr) stream.tail = nullptr;
  stream.head = task->next;
  stream.owner->queued.fetch_sub(1, std::memory_order_release);
}

// False if the stream is closed before the event completes.
bool wait_for_event(Stream& stream, const Task& task) noexcept {
  if (task.event == nullptr) return true;
  std::unique_lock lock(event_monitor().mutex);
  const auto passed = [&] { return task.event->completed_record(task.number); };
  event_monitor().changed.wait(lock, [&] { return passed() || stream.closing; });
  return passed();
}

void worker_loop(Stream& stream) noexcept {
  std::unique_lock lock(stream.mutex);
  for (bool abandoning = false;;) {
    stream.changed.wait(lock, [&] { return stream.head != nullptr || stream.closing; });
    if (stream.head == nullptr) return;
    Task& task = *stream.head.load();
    lock.unlock();
    aclError failure = ACL_SUCCESS;
    abandoning = abandoning || stream.dropping || !wait_for_event(stream, task);
    if (abandoning) {
      task.abandon();
    } else {
      failure = task.run();
    }
    lock.lock();
    if (stream.failure == ACL_SUCCESS) stream.failure = failure;
    pop_head(stream);
    stream.changed.notify_all();
  }
}

bool start_worker(Stream& stream) noexcept {
  const auto body = [](void* self) -> void* {
    worker_loop(*static_cast<Stream*>(self));
    return nullptr;
  };
  if (pthread_create(&stream.worker, nullptr, body, &stream) != 0) return false;
  stream.worker_process = getpid();
  return true;
}

void join_worker(const Stream& stream) noexcept {
  if (stream.worker_process != 0) pthread_join(stream.worker, nullptr);
}

// A forked child inherits the streams but not their worker threads. `changed` is constructed again without
// being destroyed, because its destructor would wait for waiters that exist only in the parent.
void reset_after_fork(Stream& stream) noexcept {
  if (stream.worker_process == 0 || stream.worker_process == getpid()) return;
  new (&stream.changed) std::condition_variable;
  stream.worker_process = 0;
}

bool blocked_on_event(const Stream& stream) noexcept {
  const Task* const head = stream.head;
  if (head == nullptr || head->event == nullptr) return false;
  const std::lock_guard lock(event_monitor().mutex);
  return !head->event->completed_record(head->number);
}

// Returns true if it had to wait. Before a stream is destroyed it waits callback_timeout_ms for a callback,
// and not at all if this thread would have to run it.
bool drain(Stream& stream, bool closing) noexcept {
  std::unique_lock lock(stream.mutex);
  const auto done = [&] { return stream.head == nullptr || blocked_on_event(stream); };
  if (done()) return false;
  while (!done()) {
    const Task* const head = stream.head;
    const auto moved = [&] { return stream.head != head || done(); };
    if (!closing || !head->waits) {
      stream.changed.wait(lock, moved);
    } else if (has_callbacks_for_this_thread(stream) ||
               !stream.changed.wait_for(lock, std::chrono::milliseconds(callback_timeout_ms), moved)) {
      return false;
    }
  }
  return true;
}

Streams::Pin next_stream(Context& context, uint64_t* serial) noexcept {
  const std::lock_guard lock(context.mutex);
  for (Stream* stream = context.first; stream != nullptr; stream = stream->next) {
    if (stream->serial <= *serial) continue;
    *serial = stream->serial;
    if (auto pin = streams.acquire(stream->self)) return pin;
  }
  return {};
}

void link(Context& context, Stream& stream) noexcept {
  const std::lock_guard lock(context.mutex);
  stream.serial = ++g_serial;
  stream.previous = context.last;
  (context.last != nullptr ? context.last->next : context.first) = &stream;
  context.last = &stream;
}

void unlink(Context& context, Stream& stream) noexcept {
  const std::lock_guard lock(context.mutex);
  (stream.previous != nullptr ? stream.previous->next : context.first) = stream.next;
  (stream.next != nullptr ? stream.next->previous : context.last) = stream.previous;
}

}  // namespace

aclError enqueue(const Streams::Pin& stream, Task* task) noexcept {
  std::unique_ptr<Task> owned(task);
  if (stream->closing) {
    task->abandon();
    return ACL_ERROR_RT_PARAM_INVALID;
  }
  if (stream->head == nullptr) reset_after_fork(*stream);
  // Without a worker the queue is empty, so a task that waits for nothing can run here if no thread starts.
  if (stream->worker_process == 0 && !start_worker(*stream)) {
    return task->event == nullptr && !task->waits ? task->run() : ACL_ERROR_RT_MEMORY_ALLOCATION;
  }
  if (stream->tail != nullptr) {
    stream->tail->next = owned.release();
  } else {
    stream->head = owned.release();
  }
  stream->tail = task;
  stream->owner->queued.fetch_add(1, std::memory_order_relaxed);
  stream->changed.notify_all();
  return ACL_SUCCESS;
}

aclError check_timeout(const char* function, int32_t timeout) noexcept {
  if (timeout >= -1) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: timeout: expected -1 or milliseconds, got %d", function,
              timeout);
}

aclError report_enqueue(const char* function, aclError code) noexcept {
  if (code == ACL_SUCCESS) return code;
  return fail(code, "%s: the stream could not take the work: %s", function,
              code == ACL_ERROR_RT_MEMORY_ALLOCATION ? "out of memory" : "it is being destroyed");
}

std::atomic<int> callback_timeout_ms{1000};

void drain(Context& context, bool closing) noexcept {
  // A blocked stream may continue once another has recorded its event, so repeat until no stream had to wait.
  while (context.queued.load(std::memory_order_acquire) != 0) {
    bool waited = false;
    uint64_t serial = 0;
    while (auto stream = next_stream(context, &serial)) waited = drain(*stream, closing) || waited;
    if (!waited) return;
  }
}

bool wait_idle(Stream& stream, int32_t timeout, aclError* failure) noexcept {
  std::unique_lock lock(stream.mutex);
  const auto idle = [&] { return stream.head == nullptr; };
  if (!wait_for(stream.changed, lock, timeout, idle)) return false;
  *failure = stream.failure.exchange(ACL_SUCCESS);
  return true;
}

bool wait_all(Context& context, int32_t timeout, aclError* first_failure) noexcept {
  using std::chrono::milliseconds;
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(timeout);
  uint64_t serial = 0;
  while (auto stream = next_stream(context, &serial)) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    const auto limit = static_cast<int32_t>(std::max<int64_t>(left, 0));
    aclError failure = ACL_SUCCESS;
    if (!wait_idle(*stream, timeout < 0 ? -1 : limit, &failure)) return false;
    if (*first_failure == ACL_SUCCESS) *first_failure = failure;
  }
  return true;
}

void* create_stream(void* context) noexcept {
  auto owner = contexts.acquire(context);
  if (!owner) return nullptr;
  void* handle = streams.insert(context, std::move(owner));
  if (handle == nullptr) return nullptr;
  const auto stream = streams.acquire(handle);
  stream->self = handle;
  link(*stream->owner, *stream);
  return handle;
}

bool destroy_stream(void* handle, bool force) noexcept {
  const auto stream = streams.acquire(handle);
  if (!stream || !streams.retire(handle)) return false;
  {
    const std::lock_guard lock(stream->mutex);
    reset_after_fork(*stream);
    stream->dropping = force;
  }
  if (!force) drain(*stream, true);
  {
    const std::scoped_lock lock(stream->mutex, event_monitor().mutex);
    stream->closing = true;
  }
  stream->changed.notify_all();
  event_monitor().changed.notify_all();
  join_worker(*stream);
  end_subscription(*stream);
  unlink(*stream->owner, *stream);
  return true;
}

}  // namespace mseloss::acl
