#include "cpu/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#include "mseloss/mseloss.h"

namespace mseloss {
namespace {

// A forked child does not inherit the helper threads. TBB does not detect this and OpenMP waits for them, so
// the child runs without helpers.
std::atomic<bool> forked{false};
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

int count_processors() {
  if (int count; cpu::read_thread_variable(&count) && count > 0) return count;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

}  // namespace

int max_threads() {
  static const int count = count_processors();
  return count;
}

namespace cpu {

bool read_thread_variable(int* count) {
  *count = 0;
  const char* text = std::getenv("MSELOSS_NUM_THREADS");
  if (text == nullptr || *text == '\0') return true;
  int value = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  if (error != std::errc() || *end != '\0' || value < 1 || value > kMaxThreads) return false;
  *count = value;
  return true;
}

namespace {

// Allocates and frees a few blocks: malloc() keeps them, so later small allocations need no memory from the
// system.
bool reserve_small_blocks() noexcept {
  constexpr size_t kBytes = 64 << 10;  // below the size from which malloc() maps memory
  void* blocks[4];
  bool all = true;
  for (void*& block : blocks) all = (block = std::malloc(kBytes)) != nullptr && all;
  for (void* block : blocks) std::free(block);
  return all;
}

// TBB's first use in a thread allocates too, and TBB 2021.8 does not survive every failure there.
bool this_thread_has_reserve() noexcept {
  thread_local constinit bool reserved = false;
  return reserved || (reserved = reserve_small_blocks());
}

// TBB's first use in a process allocates and takes milliseconds. If it fails, TBB's initialisation remains
// incomplete and every later use hangs. The first use therefore happens here, once, under a lock; after a
// failure this process runs without helpers.
bool tbb_works() noexcept {
  enum class State { kUnused, kWorks, kFailed };
  static std::atomic<State> state{State::kUnused};
  static std::mutex mutex;
  if (state.load(std::memory_order_acquire) == State::kUnused) {
    const std::lock_guard lock(mutex);
    if (state.load(std::memory_order_relaxed) == State::kUnused) {
      // TBB loads libraries here. glibc 2.36 crashes if that fails and it cannot allocate the error message,
      // so this_thread_has_reserve() must have succeeded before.
      try {
        tbb::this_task_arena::isolate([] {
          tbb::task_group group;
          group.run([] {});
          group.wait();
        });
        state.store(State::kWorks, std::memory_order_release);
      } catch (...) {
        state.store(State::kFailed, std::memory_order_release);
      }
    }
  }
  return state.load(std::memory_order_acquire) == State::kWorks;
}

}  // namespace

bool is_forked_child() { return forked.load(std::memory_order_relaxed); }

void fork_join(int count, void (*task)(void* context, int index), void* context) {
  if (count == 1 || is_forked_child() || !this_thread_has_reserve() || !tbb_works()) {
    return task(context, 0);
  }
  bool done = false;
  try {
    // Isolated: while waiting, a thread of the host's own TBB pool must not run a task that calls us again.
    tbb::this_task_arena::isolate([&] {
      std::atomic<int> next{1};
      tbb::task_group helpers;
      try {
        for (int i = 1; i < count; ++i) helpers.run([&] { task(context, next++); });
      } catch (...) {  // no memory for a task: fewer helpers
      }
      task(context, 0);
      done = true;
      helpers.wait();  // runs tasks that no helper has started; they find no work left
    });
  } catch (...) {  // no memory for what TBB keeps about this thread
    if (!done) task(context, 0);
  }
}

bool helpers_are_awake() {
  using Clock = std::chrono::steady_clock;
  constexpr auto kNear = std::chrono::microseconds(100);
  static std::atomic<Clock::rep> last_call{0};
  const auto now = Clock::now().time_since_epoch();
  const Clock::duration before(last_call.exchange(now.count(), std::memory_order_relaxed));
  return now - before < kNear;
}

WorkShares::WorkShares(Share* shares, int count, int64_t units, int64_t max_units)
    : shares_(shares), count_(count), units_(units) {
  while (units / grain_ >= INT32_MAX) grain_ *= 2;
  const int64_t grains = (units + grain_ - 1) / grain_;
  max_grains_ = static_cast<uint64_t>(std::max<int64_t>(max_units / grain_, 1));
  int64_t first = 0;
  for (int i = 0; i < count; ++i) {
    const int64_t last = first + grains / count + (i < grains % count);
    new (shares + i) Share{{static_cast<uint64_t>(first) << 32 | static_cast<uint64_t>(last)}};
    first = last;
  }
}

bool WorkShares::take(int index, int64_t* first, int64_t* last) {
  for (int i = 0, at = index; i < count_; ++i, at = at + 1 == count_ ? 0 : at + 1) {
    if (take_from(shares_ + at, i == 0, first, last)) return true;
  }
  return false;
}

bool WorkShares::take_from(Share* share, bool own, int64_t* first, int64_t* last) {
  uint64_t left = share->remaining.load(std::memory_order_relaxed);
  for (;;) {
    const uint64_t front = left >> 32, back = left & 0xffffffffu,
                   some = std::min((back - front + 1) / 2, max_grains_);
    if (some == 0) return false;
    const uint64_t remaining = own ? (front + some) << 32 | back : front << 32 | (back - some);
    if (!share->remaining.compare_exchange_weak(left, remaining, std::memory_order_relaxed)) continue;
    *first = static_cast<int64_t>(own ? front : back - some) * grain_;
    *last = std::min(*first + static_cast<int64_t>(some) * grain_, units_);
    return true;
  }
}

}  // namespace cpu
}  // namespace mseloss
