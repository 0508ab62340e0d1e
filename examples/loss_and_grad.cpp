// A training step in one sweep over strided views: the correctly rounded loss and its derivative.
#include <mseloss/mseloss.h>

#include <cstdio>
#include <vector>

int main() {
  constexpr int64_t kRows = 3, kColumns = 4;
  const int64_t shape[] = {kRows, kColumns};
  const int64_t by_column[] = {1, kRows};  // strides of a column-major view
  const int64_t one_row[] = {0, 1};        // broadcasts one row without copying it
  std::vector<float> input(kRows * kColumns), grad_input(kRows * kColumns);
  for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i);
  const float target[kColumns] = {0, 1, 2, 3}, grad_output = 1;
  float loss = 0;

  const auto status =
      mseloss::loss_and_grad({input.data(), shape, by_column}, {target, shape, one_row},
                             mseloss::Reduction::kMean, &grad_output, &loss, {grad_input.data(), shape});
  if (!status.ok()) {
    std::puts(status.message());
    return 1;
  }
  std::printf("loss %.9g\n", loss);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t column = 0; column < kColumns; ++column) {
      std::printf("%9.6f ", grad_input[row * kColumns + column]);
    }
    std::puts("");
  }

  // An invalid call returns an error with a one-sentence message and writes nothing.
  const int64_t three[] = {3};
  const auto refused =
      mseloss::loss_and_grad({input.data(), shape}, {target, three}, mseloss::Reduction::kMean, &grad_output,
                             &loss, {grad_input.data(), shape});
  std::printf("a target of shape (3): %s\n", refused.message());
  return loss == 260.0F / 12 && !refused.ok() ? 0 : 1;
}
