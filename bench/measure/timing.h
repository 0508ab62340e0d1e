// Interleaved timing: every repetition calls each contender, so that disturbances affect all of them alike.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace bench {

struct Contender {
  std::string name;
  std::function<void()> call;
  bool spins = false;  // its thread pool spins for a moment after the call
};

struct Timing {
  std::string name;
  double median = 0, q1 = 0, q3 = 0, min = 0;  // seconds per call
  int samples = 0;
  long calls = 0;  // per sample
};

// Takes about `seconds` in total, with at least 5 repetitions (3 below 0.03 s). Short calls follow untimed
// calls of the same contender, which leave their data in the caches; long calls find the caches as the
// previous contender left them.
std::vector<Timing> measure(const std::vector<Contender>& contenders, double seconds);

}  // namespace bench
