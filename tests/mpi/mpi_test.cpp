// Run by mpirun: random data in random parts, one for each rank. Every rank computes the same random data, so
// that it can compare with the reference of the whole. GoogleTest's output is that of rank 0; a rank that
// fails returns 1.
#include <mseloss/mpi.h>

#include "tests/support/parts.h"

namespace {

using namespace weighted;
using mseloss::Code;

int rank_of(MPI_Comm comm) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  return rank;
}

int ranks_of(MPI_Comm comm) {
  int ranks = 0;
  MPI_Comm_size(comm, &ranks);
  return ranks;
}

struct Rows {
  int64_t first, last;
};

// The rows of this rank: random cuts, the same on all ranks; some parts are empty.
Rows own_rows(Random& random, int64_t rows, MPI_Comm comm) {
  std::vector<int64_t> cuts{0, rows};
  for (int i = ranks_of(comm); i > 1; --i) cuts.push_back(random.range(0, rows));
  std::sort(cuts.begin(), cuts.end());
  const auto rank = static_cast<size_t>(rank_of(comm));
  return {cuts[rank], cuts[rank + 1]};
}

TEST(Mpi, LossAndGradient_HaveTheBitsOfTheWholeOnEveryRank) {
  const MPI_Comm comm = MPI_COMM_WORLD;
  for_each_case(120, [&](Random& random) {
    const DType dtype = random.pick(kDTypes), to = random.pick(kDTypes);
    const Reduction reduction = random.pick({Reduction::kMean, Reduction::kSum});
    const Shape shape{random.range(0, 40), random.range(1, 9)};
    Operand x(random, dtype, shape, Layout::kDense), y(random, dtype, shape, Layout::kDense);
    const Weights kind = random.pick(kWeights);
    Operand w(random, weight_dtype(random, dtype, kind), shape, Layout::kDense);
    Operand out(random, dtype, shape, Layout::kDense, true);
    Operand g(random, dtype, {}, Layout::kDense);
    const Values values = random.pick(kValues);
    for (Operand* operand : {&x, &y, &g}) operand->fill(random, values);
    fill_weights(random, w, kind);
    const bool weighted = random.chance(50), in_place = random.chance(30);
    Options options;
    options.exact = random.chance(20);
    const ConstTensor weights = w.view(), gradient = g.view();
    const Reference expected =
        reference(x.view(), y.view(), weighted ? &weights : nullptr, &gradient, reduction, {}, to, dtype);

    const Rows own = own_rows(random, shape[0], comm);
    const Shape part{own.last - own.first, shape[1]};
    const auto rows = [&](auto tensor) {
      tensor.data = static_cast<char*>(const_cast<void*>(static_cast<const void*>(tensor.data))) +
                    own.first * shape[1] * mseloss::size_of(tensor.dtype);
      tensor.shape = part;
      tensor.strides = {};
      return tensor;
    };
    const ConstTensor a = rows(x.view()), b = rows(y.view()), c = rows(w.view());
    double loss[2] = {7, 7};
    Status status = weighted ? mseloss::mpi::loss(a, b, c, reduction, {&loss[0], to}, comm, options)
                             : mseloss::mpi::loss(a, b, reduction, {&loss[0], to}, comm, options);
    ASSERT_TRUE(status.ok()) << status.message();
    Operand& result = in_place ? x : out;
    const mseloss::Tensor dx = rows(result.tensor());
    status =
        weighted
            ? mseloss::mpi::loss_and_grad(a, b, c, reduction, g.view(), {&loss[1], to}, dx, comm, options)
            : mseloss::mpi::loss_and_grad(a, b, reduction, g.view(), {&loss[1], to}, dx, comm, options);
    ASSERT_TRUE(status.ok()) << status.message();
    for (const double& value : loss) {
      ASSERT_TRUE(oracle::same(to, oracle::load(to, &value), expected.loss[0]))
          << text_of(to, oracle::load(to, &value)) << ", not " << text_of(to, expected.loss[0]);
    }
    for (int64_t i = own.first * shape[1]; i < own.last * shape[1]; ++i) {
      ASSERT_TRUE(oracle::same(dtype, result.bits(i), expected.grad[static_cast<size_t>(i)])) << i;
    }
  });
}

TEST(Mpi, CommunicatorOfSomeRanks_SumsTheirDataOnly) {
  MPI_Comm half;
  const int rank = rank_of(MPI_COMM_WORLD);
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, 0, &half);
  const double x = rank, zero = 0;
  double sum = -1, expected = 0;
  for (int i = rank % 2; i < ranks_of(MPI_COMM_WORLD); i += 2) expected += i * i;
  const Status status = mseloss::mpi::loss(&x, &zero, Reduction::kSum, &sum, half);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(sum, expected);
  MPI_Comm_free(&half);
}

TEST(Mpi, ErrorOnOneRank_IsAnErrorOnAll) {
  const MPI_Comm comm = MPI_COMM_WORLD;
  const int last = ranks_of(comm) - 1;
  const bool own = rank_of(comm) == last;
  const float x[3] = {1, 2, 3}, one = 1;
  float out[3], loss = 0, wide[2];
  const int64_t three[] = {3}, two[] = {2};
  const ConstTensor target(x, own ? two : three);
  const auto failed = [&](const Status& status, Code code, const char* message) {
    EXPECT_EQ(status.code(), own ? code : Code::kCommunication) << status.message();
    if (!own) message = "comm: expected all ";
    EXPECT_EQ(std::string(status.message()).find(message), 0u) << status.message();
  };
  for (const Reduction reduction : {Reduction::kMean, Reduction::kSum}) {
    failed(mseloss::mpi::loss({x, three}, target, reduction, &loss, comm), Code::kShape, "target: ");
    failed(mseloss::mpi::loss_and_grad({x, three}, target, reduction, &one, &loss, {out, three}, comm),
           Code::kShape, "target: ");
    failed(mseloss::mpi::loss_and_grad({x, three}, {x, three}, reduction, &one, &loss,
                                       {out, own ? two : three}, comm),
           Code::kShape, "grad_input: ");
    failed(mseloss::mpi::loss({x, three}, {x, three}, own ? Reduction::kNone : reduction, &loss, comm),
           Code::kReduction, "reduction: ");
    mseloss::Tensor to(&loss);
    if (own) to = {wide, two};
    failed(mseloss::mpi::loss({x, three}, {x, three}, reduction, to, comm), Code::kShape, "out: ");
    if (own) to = {static_cast<float*>(nullptr)};
    failed(mseloss::mpi::loss({x, three}, {x, three}, reduction, to, comm), Code::kNullPointer, "out: ");
    EXPECT_TRUE(mseloss::mpi::loss({x, three}, {x, three}, reduction, &loss, comm).ok());
  }
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  MPI_Init(&argc, &argv);
  if (rank_of(MPI_COMM_WORLD) != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  const int failed = RUN_ALL_TESTS();
  if (failed != 0) std::fprintf(stderr, "rank %d failed\n", rank_of(MPI_COMM_WORLD));
  MPI_Finalize();
  return failed;
}
