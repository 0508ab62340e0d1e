// Checks the counters against their targets, and prints the table of docs/ascend_performance.md.
#include <gtest/gtest.h>

#include "sparse.h"

namespace ascend_tests {
namespace {

const char* NameOf(DType dtype) {
  return dtype == DType::kFloat32 ? "float32" : dtype == DType::kFloat16 ? "float16" : "bfloat16";
}

// The counters of a call on zeros with all blocks.
ascend_model::Counters CountersOf(DType dtype, int64_t n, bool scalar, uint32_t cores = 48,
                                  double bus = 18.5) {
  Request request = RequestOf(dtype, "mean", {n}, {n}, scalar ? Shape{} : Shape{n});
  request.vector_cores = cores;
  request.timing.bus_bytes = bus;
  SparseCase test(request);
  const ascend_model::Outcome outcome =
      ascend_model::RunOperator(ascend_model::MseLossV2Grad(), test.request);
  EXPECT_EQ(outcome.error, "");
  return outcome.counters;
}

TEST(PerformanceTest, BytesMoved_AreTheMinimumAndCopyingIsTheBound) {
  std::printf("%-9s %-7s %9s %10s %12s %8s %8s %8s %8s %9s\n", "dtype", "dout", "elements", "bytes/elem",
              "over minimum", "copies", ">=16KB", "vec/copy", "overlap", "bus busy");
  for (const DType dtype : kDTypes) {
    for (const bool scalar : {true, false}) {
      for (const int64_t n : {int64_t{1} << 20, int64_t{1} << 24}) {
        const ascend_model::Counters c = CountersOf(dtype, n, scalar);
        const double moved = static_cast<double>(c.bytes_in + c.bytes_out);
        const double minimum = static_cast<double>(n * WidthOf(dtype) * (scalar ? 3 : 4));
        const double over = moved / minimum - 1;
        const double vector_share = c.vector_cycles / c.copy_cycles;
        const double busy = c.copy_cycles / (c.cycles * static_cast<double>(c.blocks));
        std::printf(
            "%-9s %-7s %9lld %10.4f %10.4f %% %8llu %6.1f %% %8.2f %6.1f %% %7.1f %%\n", NameOf(dtype),
            scalar ? "scalar" : "full", static_cast<long long>(n), moved / static_cast<double>(n), 100 * over,
            static_cast<unsigned long long>(c.copies_in + c.copies_out),
            100.0 * static_cast<double>(c.large_copies) / static_cast<double>(c.copies_in + c.copies_out),
            vector_share, 100 * c.overlap_cycles / c.vector_cycles, 100 * busy);
        EXPECT_LT(over, 0.001);
        EXPECT_LT(vector_share, 0.6) << "the vector pipe must not be the bound";
        if (n == int64_t{1} << 24) {
          EXPECT_GT(c.overlap_cycles / c.vector_cycles, 0.9);
          EXPECT_GT(busy, 0.9);
          EXPECT_GE(static_cast<double>(c.large_copies) / static_cast<double>(c.copies_in + c.copies_out),
                    0.9);
        }
      }
    }
  }
}

// Sizes up to 2^24 elements are executed. Above, a core only repeats its loop, so times are extrapolated
// linearly.
TEST(PerformanceTest, PredictedTimes_StayNearTheBound) {
  struct Chip {
    const char* name;
    uint32_t cores;
    double terabytes;
  };
  const Chip chips[] = {
      {"48 cores, 1.6 TB/s", 48, 1.6}, {"40 cores, 1.6 TB/s", 40, 1.6}, {"40 cores, 0.8 TB/s", 40, 0.8}};
  const double clock = ascend_model::Timing().clock_ghz * 1e9;
  for (const Chip& chip : chips) {
    const double bus = chip.terabytes * 1e12 / chip.cores / clock;
    for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
      for (const bool scalar : {true, false}) {
        const double small = CountersOf(dtype, 1 << 20, scalar, chip.cores, bus).cycles / clock;
        const double medium = CountersOf(dtype, 1 << 22, scalar, chip.cores, bus).cycles / clock;
        const double middle = CountersOf(dtype, 1 << 23, scalar, chip.cores, bus).cycles / clock;
        const double large = CountersOf(dtype, 1 << 24, scalar, chip.cores, bus).cycles / clock;
        std::printf("%s %-8s %-7s", chip.name, NameOf(dtype), scalar ? "scalar" : "full");
        for (int power = 20; power <= 30; power += 2) {
          const double n = std::ldexp(1.0, power);
          const double bound =
              n * static_cast<double>(WidthOf(dtype) * (scalar ? 3 : 4)) / (chip.terabytes * 1e12);
          const double time = power == 20   ? small
                              : power == 22 ? medium
                                            : large + (large - middle) * (n / (1 << 23) - 2);
          std::printf(" | 2^%d %.1f us (%.0f %%)", power, 1e6 * time, 100 * bound / time);
          if (power >= 24) {
            EXPECT_GT(bound / time, 0.9);
          }
        }
        std::printf("\n");
      }
    }
  }
}

TEST(PerformanceTest, RowsOf512Bytes_AreStillBoundByCopying) {
  for (const DType dtype : kDTypes) {
    const int64_t row = 512 / WidthOf(dtype), rows = 1 << 13;
    for (const bool column : {false, true}) {
      Case test(RequestOf(dtype, "mean", {rows, row}, column ? Shape{rows, 1} : Shape{1, row}, {}),
                cases::Values::kUnit, 1);
      ASSERT_EQ(test.RunAndCheck(), "");
      const ascend_model::Counters& c = test.outcome.counters;
      std::printf(
          "%-9s rows of 512 bytes, label %-11s vec/copy %.2f, copies of %.0f bytes on average\n",
          NameOf(dtype), column ? "a column:" : "one row:", c.vector_cycles / c.copy_cycles,
          static_cast<double>(c.bytes_in + c.bytes_out) / static_cast<double>(c.copies_in + c.copies_out));
      EXPECT_LT(c.vector_cycles, c.copy_cycles);
      EXPECT_LT(static_cast<double>(c.bytes_in + c.bytes_out),
                1.1 * static_cast<double>(2 * rows * row * WidthOf(dtype)));
    }
  }
}

}  // namespace
}  // namespace ascend_tests
