// The loss and gradient of data that is spread unevenly over MPI ranks; prints the same loss for any number
// of ranks, and beside it the usual sum of the ranks' float losses, whose last bits depend on their number.
//
//   mpirun -n 4 mpi_loss
#include <mseloss/mpi.h>

#include <cstdio>
#include <vector>

namespace {

constexpr int64_t kElements = 1'000'003;

// Element i of the data, wherever it lies.
float input_at(int64_t i) { return static_cast<float>(i * 7919 % 1013) / 1013; }
float target_at(int64_t i) { return static_cast<float>(i * 104729 % 997) / 997; }

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank, ranks;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);

  // Rank r has r + 1 shares of the data.
  const int64_t shares = int64_t{ranks} * (ranks + 1) / 2;
  const int64_t first = kElements * (int64_t{rank} * (rank + 1) / 2) / shares;
  const int64_t last = kElements * (int64_t{rank + 1} * (rank + 2) / 2) / shares;
  std::vector<float> x, y, dx(static_cast<size_t>(last - first));
  for (int64_t i = first; i < last; ++i) {
    x.push_back(input_at(i));
    y.push_back(target_at(i));
  }

  const int64_t shape[] = {last - first};
  const float one = 1;
  float loss = 0;
  const auto status =
      mseloss::mpi::loss_and_grad({x.data(), shape}, {y.data(), shape}, mseloss::Reduction::kMean, &one,
                                  &loss, {dx.data(), shape}, MPI_COMM_WORLD);
  if (!status.ok()) std::printf("rank %d: %s\n", rank, status.message());

  float usual = 0;
  for (size_t i = 0; i < x.size(); ++i) usual += (x[i] - y[i]) * (x[i] - y[i]);
  MPI_Allreduce(MPI_IN_PLACE, &usual, 1, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  usual /= kElements;

  if (rank == 0) std::printf("%d ranks: loss %a, usual sum %a\n", ranks, loss, usual);
  MPI_Finalize();
  return status.ok() && loss == 0x1.55566ap-3F ? 0 : 1;
}
