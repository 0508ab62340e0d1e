// Ends a call before its work is done, if the caller asks for it (Options::interrupt).
#pragma once

#include <pthread.h>
#include <time.h>

#include <atomic>
#include <cstdint>

#include "mseloss/types.h"

namespace mseloss::cpu {

class InterruptPoll {
 public:
  explicit InterruptPoll(const Interrupt* interrupt)
      : interrupt_(interrupt), caller_(interrupt == nullptr ? pthread_t{} : pthread_self()) {}

  bool possible() const { return interrupt_ != nullptr; }
  bool requested() const { return requested_.load(std::memory_order_relaxed); }

  // Whether to stop; every participant calls it at least every few milliseconds. Only the thread that created
  // this object polls Interrupt::requested().
  bool check() {
    if (!possible()) return false;
    if (pthread_equal(pthread_self(), caller_) != 0 && is_due() &&
        interrupt_->requested(interrupt_->context)) {
      requested_.store(true, std::memory_order_relaxed);
    }
    return requested();
  }

 private:
  static constexpr int64_t kInterval = 50;  // ms

  bool is_due() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);  // takes 5 ns
    const int64_t now = int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1000000;
    const bool due = last_poll_ != 0 && now - last_poll_ >= kInterval;
    if (due || last_poll_ == 0) last_poll_ = now;
    return due;
  }

  const Interrupt* interrupt_;
  const pthread_t caller_;
  int64_t last_poll_ = 0;  // ms; accessed by the calling thread only
  std::atomic<bool> requested_{false};
};

}  // namespace mseloss::cpu
