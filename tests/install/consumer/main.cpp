#include <mseloss/mseloss.h>

#include <cstdint>

int main() {
  const int64_t shape[] = {2, 2};
  const float x[] = {1, 2, 3, 4}, y[] = {1, 1, 1, 1}, g = 1;
  float dx[4];
  const auto status = mseloss::grad(&g, {x, shape}, {y, shape}, mseloss::Reduction::kMean, {dx, shape});
  return status.ok() && dx[3] == 1.5f ? 0 : 1;
}
