#include "cpu/host_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "cpu/thread_pool.h"

namespace mseloss {
namespace {

std::atomic<const HostThreads*> default_threads{nullptr};

}  // namespace

void set_host_threads(const HostThreads* threads) noexcept {
  default_threads.store(threads, std::memory_order_release);
}

namespace cpu {
namespace {

int64_t now() noexcept {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// What the calling thread knows about the host's threads. One record per thread, because some hosts, OpenMP
// among them, have a separate team for each thread that calls them.
struct Record {
  // Both must have passed before the host's threads are used again.
  int64_t avoid_until;  // in terms of now()
  int avoid_calls;      // calls on the thread
  int factor;           // the host's threads are avoided for this many times the last wait
};
thread_local constinit Record record{};

// Records how long a call that began at `start` waited for threads that had no work. A single late thread on
// a quiet machine costs little, so it has few consequences; where more than a third of the attempts are late,
// `factor` grows to its maximum and attempts become rare.
void record_wait(int64_t start, int64_t first_end, int64_t end) noexcept {
  // Participants that share work dynamically finish at about the same time: of two threads, one takes at most
  // a quarter of the work at once.
  constexpr int64_t kTolerated = 20'000;  // ns; waking a thread costs 30 to 50 us
  constexpr int kMinFactor = 8, kMaxFactor = 1024, kGrowth = 4;
  constexpr int kFactorPerCall = 8;  // 1 to 128 calls, for calls that are far apart
  const int64_t wait = end - first_end;
  if (wait <= kTolerated + (first_end - start) / 4) {
    record.factor /= 2;
    return;
  }
  record.factor = std::clamp(record.factor * kGrowth, kMinFactor, kMaxFactor);
  record.avoid_until = end + wait * record.factor;
  record.avoid_calls = record.factor / kFactorPerCall;
}

struct HostJob {
  void (*task)(void* context, int index);
  void* context;
  std::atomic<int64_t> first_end{0};  // when the first participant found no work left; 0 before
};

}  // namespace

const HostThreads* select_host_threads(const HostThreads* threads, int* count) noexcept {
  if (threads == nullptr) threads = default_threads.load(std::memory_order_acquire);
  if (threads == nullptr || is_forked_child()) return nullptr;
  *count = std::clamp(threads->num_threads(threads->context), 1, *count);
  if (*count == 1) return nullptr;
  if (record.avoid_calls > 0) {
    --record.avoid_calls;
    return nullptr;
  }
  return now() >= record.avoid_until ? threads : nullptr;
}

void host_fork_join(const HostThreads& threads, int count, void (*task)(void* context, int index),
                    void* context) noexcept {
  HostJob job{task, context};
  const auto participate = [](void* data, int index) {
    auto& job = *static_cast<HostJob*>(data);
    job.task(job.context, index);
    int64_t none = 0;
    if (job.first_end.load(std::memory_order_relaxed) == 0) {
      job.first_end.compare_exchange_strong(none, now(), std::memory_order_relaxed);
    }
  };
  const int64_t start = now();
  if (!threads.parallel_for(threads.context, count, participate, &job)) return task(context, 0);
  const int64_t end = now(), first_end = job.first_end.load(std::memory_order_relaxed);
  if (first_end != 0) record_wait(start, first_end, end);
}

}  // namespace cpu
}  // namespace mseloss
