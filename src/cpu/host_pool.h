// Fork-join on the host's threads (mseloss/threads.h), as long as they start promptly.
#pragma once

#include "mseloss/threads.h"

namespace mseloss::cpu {

// Limits *count, which is above 1, to the host's number of threads. Returns the threads to use: null for the
// own pool if there is no host, or while this thread avoids the host's threads because they started late.
// `threads` is the call's option; null stands for those of set_host_threads().
const HostThreads* select_host_threads(const HostThreads* threads, int* count) noexcept;

// As fork_join() of thread_pool.h, on the host's threads.
void host_fork_join(const HostThreads& threads, int count, void (*task)(void* context, int index),
                    void* context) noexcept;

}  // namespace mseloss::cpu
