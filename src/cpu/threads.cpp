#include "cpu/threads.h"

#include <pthread.h>
#include <sched.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "mseloss/mseloss.h"

namespace mseloss {
namespace {

// A forked child has none of its parent's helper threads, and TBB does not know: it works alone.
std::atomic<bool> forked{false};
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

int count_processors() {
  if (const char* text = std::getenv("MSELOSS_NUM_THREADS")) {
    const int count = std::atoi(text);
    if (count > 0) return std::min(count, 1024);
  }
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

void parallel(int count, void (*task)(void* context, int index), void* context) {
  if (count == 1 || forked.load(std::memory_order_relaxed)) {
    for (int i = 0; i < count; ++i) task(context, i);
    return;
  }
  // Each index is taken once by whoever comes: should TBB fail to start helpers, this thread does what is
  // left.
  std::atomic<int> next{0};
  const auto work = [&] {
    for (int i = next++; i < count; i = next++) task(context, i);
  };
  try {
    // Isolated: while it waits, a thread of the host's own TBB pool must not take up a task that calls us
    // again.
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(
          0, count, [&](int) { work(); }, tbb::simple_partitioner());
    });
  } catch (...) {  // no memory for a task
  }
  work();
}

}  // namespace cpu
}  // namespace mseloss
