// Fork and join, and who does what.
#pragma once

#include <atomic>
#include <cstdint>

namespace mseloss::cpu {

// Calls task(context, 0) on this thread and task(context, index) for other indices in [1, count) on helpers,
// as many as come in time, each index at most once; returns when all calls have. The work must not depend on
// helpers coming: Shares deals it out to whoever does.
void parallel(int count, void (*task)(void* context, int index), void* context);

// Whether helpers are worth asking for a job of some microseconds: to wake one takes 10 us of this thread,
// and 30 until it has come, so only while calls follow one another so closely that it stays awake.
bool helpers_are_near();

// Units of work, a contiguous share for each participant, so that it meets in its caches what it left there
// in the call before. It takes half of what is left of its share at a time, from the front; one that has no
// more takes from the back of others' shares: nobody waits for a helper that is late or slow.
class Shares {
 public:
  struct alignas(64) Share {
    std::atomic<uint64_t> left;  // grains: the first in the upper half, the end in the lower
  };

  Shares() = default;
  // In memory for `count` shares.
  Shares(Share* shares, int count, int64_t units);

  // The next units for a participant; false when there are none left.
  bool take(int index, int64_t* first, int64_t* last);

 private:
  bool take_from(Share* share, bool own, int64_t* first, int64_t* last);

  Share* shares_ = nullptr;
  int count_ = 1;
  int64_t units_ = 0, grain_ = 1;  // units in a grain: more than one only for counts beyond 2^31
};

}  // namespace mseloss::cpu
