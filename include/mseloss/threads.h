// A host's own threads for the library's work: for a program or framework that has a thread pool already.
//
//   struct Pool { ... };
//   bool parallel_for(void* context, int count, void (*task)(void* data, int index), void* data) {
//     static_cast<Pool*>(context)->run(count, [=](int index) { task(data, index); });
//     return true;
//   }
//   int num_threads(void* context) { return static_cast<Pool*>(context)->size(); }
//
//   static Pool pool;
//   static const mseloss::HostThreads threads{&parallel_for, &num_threads, &pool};
//   mseloss::set_host_threads(&threads);                     // for all calls of the process, or
//   mseloss::Options options;
//   options.host_threads = &threads;                         // for one call
//
// Results have the same bits on the library's own threads and on a host's.
#ifndef MSELOSS_THREADS_H_
#define MSELOSS_THREADS_H_

#include "mseloss/types.h"

namespace mseloss {

// A parallel loop of the host. Both functions are called from any thread that calls the library, from several
// at the same time, and must not throw.
//
// The library divides its work at run time between the tasks that have started, so a task that starts late
// finds nothing left to do. A loop that only returns after each of its threads has participated, as OpenMP's
// does, still waits for that thread. The library measures this wait: after a call that waited for more than
// 20 us and a quarter of its working time, the calling thread uses the library's own threads for 8 times as
// long, and for up to 1024 times as long while further attempts are late as well.
struct HostThreads {
  // Calls task(data, index) once for each index in [0, count), in any order, on any threads, and returns when
  // all calls have returned. It may make all calls on the calling thread. Returns false if it has made none;
  // the library then does the work on the calling thread.
  bool (*parallel_for)(void* context, int count, void (*task)(void* data, int index), void* data);
  // How many threads parallel_for() uses at most if it is called now by this thread, which counts as one.
  // Limits the library's own threads as well.
  int (*num_threads)(void* context);
  void* context;
};

// The threads for all calls whose Options name none; null, the default: the library's own. `threads` is not
// copied; it and its context stay valid until all calls that may use them have returned.
MSELOSS_API void set_host_threads(const HostThreads* threads) noexcept;

}  // namespace mseloss

#endif  // MSELOSS_THREADS_H_
