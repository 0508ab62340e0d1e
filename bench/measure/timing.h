// Times in turns: every repetition calls each contender, so that what disturbs one disturbs all.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace bench {

struct Contender {
  std::string name;
  std::function<void()> call;
  bool spins = false;  // leaves threads of another pool spinning for a moment
};

struct Timing {
  std::string name;
  double median = 0, q1 = 0, q3 = 0, least = 0;  // seconds a call
  int samples = 0;
  long calls = 0;  // in a sample
};

double now();  // seconds
// About `seconds` in all, 5 repetitions at least (3 where it is less than 0.03). Caches are as the
// contender's own previous call left them where a call is short (one is made untimed before each sample), and
// as the others' where it is long.
std::vector<Timing> measure(const std::vector<Contender>& contenders, double seconds);

}  // namespace bench
