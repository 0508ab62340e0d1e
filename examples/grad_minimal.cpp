// A minimal C++ call: the gradient of the mean-squared-error loss.
#include <mseloss/mseloss.h>

#include <cstdio>

int main() {
  const int64_t shape[] = {2, 2};
  const float input[] = {1, 2, 3, 4}, target[] = {1, 1, 1, 1}, grad_output = 1;
  float grad_input[4];

  // grad_output is 0-dimensional and broadcasts; mean divides by the element count of input, 4.
  const auto status = mseloss::grad(&grad_output, {input, shape}, {target, shape}, mseloss::Reduction::kMean,
                                    {grad_input, shape});
  if (!status.ok()) {
    std::puts(status.message());
    return 1;
  }
  for (const float value : grad_input) std::printf("%g ", value);
  std::puts("");  // 0 0.5 1 1.5
  return grad_input[3] == 1.5F ? 0 : 1;
}
