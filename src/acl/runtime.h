// Contexts, streams and events, as the acl and aclnn functions see them.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

#include "acl/acl.h"
#include "acl/error.h"
#include "acl/handle.h"

namespace mseloss::acl {

struct Context;
struct Stream;
struct Event;
using Contexts = HandleTable<Context, 1>;
using Streams = HandleTable<Stream, 2>;
using Events = HandleTable<Event, 3>;
// Tags 4 and 5 are aclnn's. The tables have no destructor to run: handles stay safe to use during exit.
extern constinit Contexts contexts;
extern constinit Streams streams;
extern constinit Events events;

struct Context {
  explicit Context(int32_t device_id) noexcept : device(device_id) {}
  const int32_t device;
  void* default_stream = nullptr;
  std::mutex mutex;  // guards the list
  Stream* first = nullptr;
  Stream* last = nullptr;
  std::atomic<int64_t> queued{0};  // tasks in the queues of all its streams
};

// One piece of queued work.
struct Task {
  virtual ~Task() = default;
  virtual aclError run() noexcept = 0;
  virtual void abandon() noexcept {}  // instead of run(), when the stream ends before its turn
  Event* event = nullptr;             // run only once this event has passed `number`
  uint64_t number = 0;
  Task* next = nullptr;
};

// A queue with at most one worker thread, started by the first task that cannot run at once and joined by
// whoever destroys the stream. `mutex` guards all but what is constant; it is taken before progress().mutex,
// never after. The worker keeps the task that it runs at the head, so that an empty queue means idle.
struct Stream {
  Stream(void* context_handle, Contexts::Pin context_pin) noexcept
      : context(context_handle), owner(std::move(context_pin)) {}
  void* const context;
  const Contexts::Pin owner;
  std::mutex mutex;
  std::condition_variable changed;
  Task* head = nullptr;
  Task* tail = nullptr;
  pthread_t worker;
  pid_t worker_process = 0;  // that started it; 0 before
  std::atomic<bool> closing{false};
  aclError failure = ACL_SUCCESS;  // of a queued task, until someone synchronises
  void* self = nullptr;
  uint64_t serial = 0;  // order of creation
  Stream* previous = nullptr;
  Stream* next = nullptr;
};

// Everyone who waits for an event waits here; few do at a time, and events are rare beside work.
struct Progress {
  std::mutex mutex;  // guards every Event
  std::condition_variable changed;
};
Progress& progress() noexcept;

// Records are numbered in the order they are asked for. A wait is for the number current when it is asked
// for, or for the next one if the event is not armed (never recorded, or reset since).
struct Event {
  Event() noexcept = default;
  uint64_t requested = 0;
  uint64_t completed = 0;
  bool armed = false;
  bool destroyed = false;
  std::chrono::steady_clock::time_point stamp;

  bool recorded() const { return armed && completed >= requested; }
  uint64_t awaited() const { return armed ? requested : requested + 1; }
  // A destroyed event will not be recorded again: who waits for that is let go.
  bool passed(uint64_t number) const { return completed >= number || (destroyed && number > requested); }
};

// The calling thread's context.
void* current_context() noexcept;
aclError need_context(const char* function) noexcept;
aclError find_stream(const char* function, aclrtStream handle, Streams::Pin* stream) noexcept;

void* create_context(int32_t device) noexcept;
bool destroy_context(void* handle) noexcept;
void* create_stream(void* context) noexcept;
bool destroy_stream(void* handle) noexcept;

// Appends, with the stream's lock held; takes the task over whatever happens.
aclError enqueue(const Streams::Pin& stream, Task* task) noexcept;
// Waits for everything that can run; what stands behind an event that nobody has recorded yet stays.
void drain(Context& context) noexcept;
// Waits for everything; the first failure of any stream.
aclError wait_all(Context& context) noexcept;
// Waits for the whole queue; timeout in ms, -1 for ever. False when the time is over.
bool wait_idle(Stream& stream, int32_t timeout, aclError* failure) noexcept;

template <class Work>
struct WorkTask final : Task {
  explicit WorkTask(const Work& w) noexcept : work(w) {}
  aclError run() noexcept override { return work(); }
  const Work work;
};

// Runs `work` in the stream's order: at once on this thread, under the stream's lock, when it is `tiny` and
// the stream is idle (a hand-over costs more than the work), else what keep() returns, on the worker: the
// same work owning all it needs.
template <class Work, class Keep>
aclError submit(const Streams::Pin& stream, bool tiny, const Work& work, const Keep& keep) noexcept {
  const std::lock_guard lock(stream->mutex);
  if (tiny && stream->head == nullptr) return work();
  Task* task = new (std::nothrow) WorkTask(keep());
  if (task == nullptr) return ACL_ERROR_RT_MEMORY_ALLOCATION;
  return enqueue(stream, task);
}
template <class Work>
aclError submit(const Streams::Pin& stream, bool tiny, const Work& work) noexcept {
  return submit(stream, tiny, work, [&] { return work; });
}

}  // namespace mseloss::acl
