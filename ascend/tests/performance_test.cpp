// The counters against the targets, and the table of docs/ascend_performance.md.
#include <gtest/gtest.h>

#include "sparse.h"

namespace ascend_tests {
namespace {

const char* NameOf(DType dtype) {
  return dtype == DType::kFloat32 ? "float32" : dtype == DType::kFloat16 ? "float16" : "bfloat16";
}

// All blocks of a call on zeros.
ascend_model::Counters CountersOf(DType dtype, int64_t n, bool scalar) {
  Request request = RequestOf(dtype, "mean", {n}, {n}, scalar ? Shape{} : Shape{n});
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
