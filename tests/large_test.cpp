// Tensors with more elements or bytes than 31 or 32 bits can count.
#include <sys/mman.h>

#include <fstream>

#include "tests/support/sums.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MSELOSS_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MSELOSS_TEST_SANITIZED 1
#endif
#endif
#ifndef MSELOSS_TEST_SANITIZED
#define MSELOSS_TEST_SANITIZED 0
#endif

namespace {

using namespace cases;

int64_t available_bytes() {
  std::ifstream info("/proc/meminfo");
  for (std::string line; std::getline(info, line);)
    if (line.rfind("MemAvailable:", 0) == 0) return std::strtoll(line.c_str() + 13, nullptr, 10) * 1024;
  return 0;
}

// An output of more than 2^31 bytes and 2^30 elements; the inputs are a few values, broadcast with stride 0.
TEST(Large, OutputOfMoreThan2To31Bytes_EqualsTheOracleEverywhere) {
  if (MSELOSS_TEST_SANITIZED) GTEST_SKIP() << "under a sanitizer this takes minutes";
  if (available_bytes() < int64_t{6} << 30) GTEST_SKIP() << "less than 6 GiB of memory available";
  const int64_t rows = (int64_t{1} << 20) + 3, columns = 1031, count = rows * columns;
  ASSERT_GT(count, int64_t{1} << 30);
  const auto bytes = static_cast<size_t>(count * 2);
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  madvise(memory, bytes, MADV_HUGEPAGE);
  const auto* out = static_cast<const uint16_t*>(memory);

  Random random(51);
  const DType dtype = DType::kBFloat16;
  const Shape all{rows, columns};
  Operand row(random, dtype, {columns}, Layout::kDense), one(random, dtype, {}, Layout::kDense);
  row.fill(random, Values::kUnit);
  one.fill(random, Values::kUnit);
  const Shape row_strides{0, 1};
  const ConstTensor x{row.view().data, dtype, all, row_strides};  // numel(input) is rows * columns
  ASSERT_TRUE(mseloss::grad(one.view(), x, one.view(), Reduction::kMean, {memory, dtype, all}).ok());
  // The oracle takes numel(input) as a parameter, so it computes one row, which all rows must equal.
  const auto expected = oracle::grad(one.view(), row.view(), one.view(), Reduction::kMean, dtype, count);
  int64_t wrong = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) wrong += out[r * columns + c] != expected[static_cast<size_t>(c)];
  EXPECT_EQ(wrong, 0);

  // The loss with the same 2^31 bytes as input, in reverse order.
  const Shape flat{count}, backwards{-1};
  const ConstTensor input{out + count - 1, dtype, flat, backwards};
  float loss = 0;
  ASSERT_TRUE(mseloss::loss(input, {one.view()}, Reduction::kMean, {&loss}).ok());
  exact::Fixed sum;
  for (uint64_t bits : expected) {
    const auto d = oracle::difference<float>(oracle::decode(dtype, bits), oracle::decode(dtype, one.bits(0)));
    int exponent;
    std::frexp(d, &exponent);
    const auto m = static_cast<unsigned __int128>(std::ldexp(std::fabs(d), 24 - exponent));
    if (m) sum.add(m * m * static_cast<unsigned __int128>(rows), 2 * (exponent - 24));
  }
  EXPECT_EQ(loss,
            exact::round_quotient(sum, static_cast<uint64_t>(count), oracle::format_of(DType::kFloat32)));
  munmap(memory, bytes);
}

// One value, broadcast to more than 2^32 elements: count and sum need 64 bits, but no memory.
TEST(Large, SumOfMoreThan2To32Elements_IsExact) {
  if (MSELOSS_TEST_SANITIZED) GTEST_SKIP() << "under a sanitizer this takes minutes";
  const uint16_t x = 0x3555, y = 0;  // float16 0.333...
  const int64_t count = (int64_t{1} << 32) + 12345;
  const Shape shape{count}, zero_stride{0};
  double sum = 0, mean = 0;
  const ConstTensor input{&x, DType::kFloat16, shape, zero_stride}, target{&y, DType::kFloat16};
  PartialSum partial;
  ASSERT_TRUE(partial.add(input, target, PartialSum::Mode::kFast).ok());
  EXPECT_EQ(partial.count(), static_cast<uint64_t>(count));
  ASSERT_TRUE(mseloss::loss(input, target, Reduction::kSum, {&sum}).ok());
  ASSERT_TRUE(mseloss::loss(input, target, Reduction::kMean, {&mean}).ok());
  const double d = oracle::decode(DType::kFloat16, x);
  EXPECT_EQ(mean, d * d);                              // exact in float64
  EXPECT_EQ(sum, d * d * static_cast<double>(count));  // a product of 22 and 33 bits, rounded once
}

}  // namespace
