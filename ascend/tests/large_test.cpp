// Lengths above 2^31 and 2^32 elements, executed where a 32-bit count or offset would overflow.
#include <gtest/gtest.h>

#include "sparse.h"

namespace ascend_tests {
namespace {

constexpr int64_t k32 = int64_t{1} << 32;

class LargeTest : public ::testing::TestWithParam<DType> {
 protected:
  // Many cores keep each block, and so the executed part, small.
  static Request Many(Request request) {
    request.vector_cores = 16384;
    return request;
  }
};

TEST_P(LargeTest, FlatPast32Bits_MatchesTheOracle) {
  const int64_t n = k32 + 100'003;
  for (const Shape& dout : {Shape{}, Shape{n}}) {
    SparseCase test(Many(RequestOf(GetParam(), "sum", {n}, {n}, dout)));
    for (const int64_t i : {int64_t{0}, k32 / 4, k32 / 2 - 1, k32 / 2, k32 - 1, k32, n - 1}) {
      test.Put(i);
    }
    EXPECT_EQ(test.RunAndCheck(), "");
  }
}

TEST_P(LargeTest, BroadcastPast32Bits_MatchesTheOracle) {
  const int64_t m = 65537, n = 65600;
  SparseCase test(Many(RequestOf(GetParam(), "mean", {m, n}, {1, n}, {m, 1})));
  for (const int64_t i : {int64_t{5}, k32 / 2 - 1, k32 / 2, k32 - 1, k32, m * n - 1}) {
    test.Put(i);
  }
  EXPECT_EQ(test.RunAndCheck(), "");
}

TEST_P(LargeTest, OriginalsUnderflowingSizes_MatchTheOracle) {
  for (const int64_t n : {653033979, 786989667, 1468608609, 1769861657}) {
    SparseCase test(Many(RequestOf(GetParam(), "mean", {n}, {n}, {})));
    for (const int64_t i : {int64_t{0}, n / 2, n - 1}) {
      test.Put(i);
    }
    EXPECT_EQ(test.RunAndCheck(), "");
  }
}

TEST_P(LargeTest, ScaleThatDoubleRoundingMisses_MatchesTheOracle) {
  SparseCase test(Many(RequestOf(GetParam(), "mean", {846731599}, {846731599}, {})));
  test.Put(0);
  EXPECT_EQ(test.RunAndCheck(), "");
}

INSTANTIATE_TEST_SUITE_P(Dtypes, LargeTest, ::testing::ValuesIn(kDTypes), [](const auto& info) {
  return std::string(info.param == DType::kFloat32   ? "float32"
                     : info.param == DType::kFloat16 ? "float16"
                                                     : "bfloat16");
});

}  // namespace
}  // namespace ascend_tests
