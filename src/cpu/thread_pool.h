// Fork-join on helper threads, and work stealing between them.
#pragma once

#include <atomic>
#include <cstdint>

namespace mseloss::cpu {

inline constexpr int kMaxThreads = 1024;
// Whether MSELOSS_NUM_THREADS is unset, empty or a number from 1 to kMaxThreads. *count is that number, or 0.
bool read_thread_variable(int* count);

// Whether this process was forked from one that had loaded the library: its parent's helpers do not exist
// here, neither the own pool's nor a host's, so it works alone.
bool is_forked_child();

// Calls task(context, 0) on this thread and task(context, index) for other indices in [1, count) on helpers
// that start in time, each index at most once; returns when all calls have returned. Task 0 must be able to
// do all the work alone; WorkShares distributes it between the participants.
void fork_join(int count, void (*task)(void* context, int index), void* context);

// Whether helpers are probably awake because the previous call was less than 100 us ago; records this call.
// A sleeping helper costs the caller 10 us to wake and starts after 30 us, too late for a short job.
bool helpers_are_awake();

// Units of work, divided into one contiguous share per participant, so that each finds the data of its
// previous call in its caches. A participant takes half of the remaining share at a time, from the front;
// when its share is empty it steals from the back of another's. No participant waits for a late or slow
// helper.
class WorkShares {
 public:
  struct alignas(64) Share {
    std::atomic<uint64_t> remaining;  // grains: the first in the upper half, the end in the lower
  };

  WorkShares() = default;
  // `shares` is uninitialised memory for `count` shares. At most `max_units` units are taken at a time.
  WorkShares(Share* shares, int count, int64_t units, int64_t max_units);

  // The next units for a participant; false if none are left.
  bool take(int index, int64_t* first, int64_t* last);

 private:
  bool take_from(Share* share, bool own, int64_t* first, int64_t* last);

  Share* shares_ = nullptr;
  int count_ = 1;
  int64_t units_ = 0, grain_ = 1;  // units per grain: more than one only beyond 2^31 units
  uint64_t max_grains_ = 1;        // taken at a time
};

}  // namespace mseloss::cpu
