#include "bench/measure/timing.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace bench {
namespace {

// All in seconds.
constexpr double kMinSample = 500e-6;
constexpr double kWarmUp = 1000e-6;  // untimed calls before a sample, which wake the contender's threads
constexpr double kLongCall = 20e-3;  // from here on no warm-up: caches and wake-up times matter little
constexpr double kSettle = 1200e-6;  // longer than idle OpenMP threads spin (main.cpp)

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

struct Run {
  long calls = 1;
  bool warm_up = false;
  std::vector<double> times;
};

double sample(const Contender& contender, long calls, bool warm_up) {
  if (warm_up) {
    for (const double warm = now() + kWarmUp; now() < warm;) contender.call();
  }
  const double start = now();
  for (long i = 0; i < calls; ++i) contender.call();
  const double each = (now() - start) / static_cast<double>(calls);
  if (contender.spins) std::this_thread::sleep_for(std::chrono::duration<double>(kSettle));
  return each;
}

}  // namespace

std::vector<Timing> measure(const std::vector<Contender>& contenders, double seconds) {
  std::vector<Run> runs(contenders.size());
  double repetition = 0;
  for (size_t i = 0; i < contenders.size(); ++i) {
    const Contender& contender = contenders[i];
    contender.call();
    double each = sample(contender, 1, false);
    if (each < kLongCall) each = std::min(each, sample(contender, each < kMinSample ? 16 : 1, true));
    runs[i].calls = std::max(1L, static_cast<long>(kMinSample / each));
    runs[i].warm_up = each < kLongCall;
    repetition += each * static_cast<double>(runs[i].calls) + (runs[i].warm_up ? std::max(kWarmUp, each) : 0);
    if (contender.spins) repetition += kSettle;
  }
  const int samples = std::clamp(static_cast<int>(seconds / repetition), seconds < 0.03 ? 3 : 5, 101);
  for (int s = 0; s < samples; ++s) {
    for (size_t i = 0; i < contenders.size(); ++i)
      runs[i].times.push_back(sample(contenders[i], runs[i].calls, runs[i].warm_up));
  }
  std::vector<Timing> timings;
  for (size_t i = 0; i < contenders.size(); ++i) {
    std::vector<double>& times = runs[i].times;
    std::sort(times.begin(), times.end());
    timings.push_back({contenders[i].name, quantile(times, 0.5), quantile(times, 0.25), quantile(times, 0.75),
                       times.front(), samples, runs[i].calls});
  }
  return timings;
}

}  // namespace bench
