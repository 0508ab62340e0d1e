// Contexts, streams and events: the objects behind the acl handles, shared by src/acl and src/aclnn.
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
struct Subscriber;
using Contexts = HandleTable<Context, 1>;
using Streams = HandleTable<Stream, 2>;
using Events = HandleTable<Event, 3>;
// Tags 4 and 5 belong to aclnn. The tables are never destroyed, so handles stay safe to use during process
// exit.
extern constinit Contexts contexts;
extern constinit Streams streams;
extern constinit Events events;

struct Context {
  void* default_stream = nullptr;
  std::mutex mutex;  // guards the list of streams
  Stream* first = nullptr;
  Stream* last = nullptr;
  std::atomic<int64_t> queued{0};  // tasks queued on all streams of this context
};

struct Task {
  virtual ~Task() = default;
  virtual aclError run() noexcept = 0;
  virtual void abandon() noexcept {}  // called instead of run() if the stream is destroyed first
  Event* event = nullptr;             // if set, run() waits until record `number` of it has completed
  uint64_t number = 0;
  bool waits = false;  // run() waits for another thread
  Task* next = nullptr;
};

// A task queue with at most one worker thread, which starts with the first task that cannot run inline and is
// joined when the stream is destroyed. `mutex` guards every non-const member, except that is_settled() reads
// two without it; lock it before event_monitor().mutex, never after. The worker leaves the running task at
// the head, so an empty queue means that the stream is idle.
struct Stream {
  Stream(void* context_handle, Contexts::Pin context_pin) noexcept
      : context(context_handle), owner(std::move(context_pin)) {}
  void* const context;
  const Contexts::Pin owner;
  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<Task*> head{nullptr};
  Task* tail = nullptr;
  pthread_t worker;
  pid_t worker_process = 0;  // the process that started the worker; 0 if none did
  std::atomic<bool> closing{false};
  std::atomic<bool> dropping{false};  // tasks that have not started are abandoned
  // The first failure of a queued task since the last synchronisation, set before the task leaves the queue.
  std::atomic<aclError> failure{ACL_SUCCESS};
  void* self = nullptr;
  uint64_t serial = 0;               // increases in order of creation
  Subscriber* subscriber = nullptr;  // guarded by event_monitor().mutex
  Stream* previous = nullptr;
  Stream* next = nullptr;

  // Whether a synchronisation has nothing to wait for and nothing to report: the usual case after small
  // calls, which run inline. A call that still runs inline on another thread has not returned, so a
  // synchronisation may come before it.
  bool is_settled() const {
    return head.load(std::memory_order_acquire) == nullptr &&
           failure.load(std::memory_order_relaxed) == ACL_SUCCESS;
  }
};

// One lock and condition variable for all events: few threads wait at a time, and events are rare compared
// with other work.
struct EventMonitor {
  std::mutex mutex;  // guards every Event
  std::condition_variable changed;
};
EventMonitor& event_monitor() noexcept;
// Waits until done() is true. `timeout` in milliseconds, -1 waits without limit; false on timeout.
template <class Done>
bool wait_for(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, int32_t timeout,
              Done done) {
  if (timeout >= 0) return changed.wait_for(lock, std::chrono::milliseconds(timeout), done);
  changed.wait(lock, done);
  return true;
}

// Records are numbered in the order of the aclrtRecordEvent calls. A wait applies to the latest record at the
// time of the call, or to the next one if the event is not armed (never recorded, or reset since).
struct Event {
  Event() noexcept = default;
  uint64_t requested = 0;  // number of the latest record
  uint64_t completed = 0;  // number of the latest record that the stream has reached
  bool armed = false;
  bool destroyed = false;
  std::chrono::steady_clock::time_point completed_at;

  bool recorded() const { return armed && completed >= requested; }
  uint64_t record_to_await() const { return armed ? requested : requested + 1; }
  // A destroyed event is never recorded again, so waits for a later record return at once.
  bool completed_record(uint64_t number) const {
    return completed >= number || (destroyed && number > requested);
  }
};

// The calling thread's context; null if none is set.
void* current_context() noexcept;
aclError check_context(const char* function) noexcept;
// A null handle is the default stream of the current context.
aclError find_stream(const char* function, aclrtStream handle, Streams::Pin* stream) noexcept;

aclError out_of_memory(const char* function) noexcept;

void* create_context() noexcept;
bool destroy_context(void* handle) noexcept;
void* create_stream(void* context) noexcept;
// With `force` the tasks that have not started are abandoned, else finished if they can be.
bool destroy_stream(void* handle, bool force = false) noexcept;
// Takes the stream from the thread that runs its callbacks, if there is one.
void end_subscription(Stream& stream) noexcept;

// Appends the task; the caller holds stream->mutex. Takes ownership of the task even on failure.
aclError enqueue(const Streams::Pin& stream, Task* task) noexcept;
// Turns a failure of enqueue() or submit() into an error with a message.
aclError report_enqueue(const char* function, aclError code) noexcept;
// Whether this thread runs the stream's callbacks. The caller holds stream.mutex.
bool has_callbacks_for_this_thread(const Stream& stream) noexcept;
// How long the end of a stream waits for another thread to run a callback. Tests shorten it.
extern std::atomic<int> callback_timeout_ms;
// Waits for all queued tasks except those blocked on an event that has not been recorded yet, and if the
// context is being destroyed those blocked on a callback that no thread runs.
void drain(Context& context, bool closing = false) noexcept;
// Waits for all queued tasks of all streams. `timeout` in milliseconds, -1 waits without limit; false on
// timeout. *failure is the first failure of any stream.
bool wait_all(Context& context, int32_t timeout, aclError* failure) noexcept;
// Milliseconds, or -1 for no limit.
aclError check_timeout(const char* function, int32_t timeout) noexcept;
// The result of a wait for streams: a code with a message unless all work finished in time and succeeded.
aclError report_wait(const char* function, int32_t timeout, bool in_time, aclError failure) noexcept;
// Waits until the queue is empty. `timeout` in milliseconds, -1 waits without limit; false on timeout.
bool wait_idle(Stream& stream, int32_t timeout, aclError* failure) noexcept;

template <class Work>
struct WorkTask final : Task {
  explicit WorkTask(const Work& w) noexcept : work(w) {}
  aclError run() noexcept override { return work(); }
  const Work work;
};

// Runs `work` in stream order. If it is `tiny` and the stream is idle, it runs inline on the calling thread,
// under the stream's lock, because waking the worker costs more than the work. Otherwise the worker runs what
// keep() returns: the same work, owning its data.
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
