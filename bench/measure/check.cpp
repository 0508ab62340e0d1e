#include "bench/measure/check.h"

#include <atomic>
#include <bit>
#include <cmath>

#include "bench/measure/memory.h"
#include "tests/support/oracle.h"

namespace bench {
namespace {

// Rounds to nearest even. The oracle's encoder handles any format but takes 60 ns per value, too slow here.
uint64_t encode(DType dtype, double value) {
  if (dtype == DType::kFloat64) return std::bit_cast<uint64_t>(value);
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  if (dtype == DType::kFloat32) return bits;
  const uint32_t magnitude = bits & 0x7fffffff, sign = (bits ^ magnitude) >> 16;
  if (dtype == DType::kBFloat16) return sign | (magnitude + 0x7fff + (magnitude >> 16 & 1)) >> 16;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) return sign | static_cast<uint32_t>(std::nearbyint(std::fabs(value) * 0x1p24));
  return sign | (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13;
}

// Consecutive elements along the innermost dimension. `first` is a row-major index in the broadcast shape;
// `at` and `step` are each operand's first element and stride, in elements.
struct Segment {
  int64_t first, count, at[kOperands], step[kOperands];
};

// Calls f(segment) for all elements, in parallel.
template <class F>
void for_each_segment(const Case& c, const F& f) {
  constexpr int64_t kLongest = 65536;
  const Shape& shape = c.shape();
  const int last = static_cast<int>(shape.size()) - 1;
  const BroadcastStrides strides = broadcast_strides(c);
  const int64_t inner = last < 0 ? 1 : shape[last], parts = (inner + kLongest - 1) / kLongest;
  const int64_t units = c.numel() / inner * parts;
#pragma omp parallel for schedule(static)
  for (int64_t unit = 0; unit < units; ++unit) {
    Segment s{};
    int64_t rest = unit / parts;
    const int64_t skip = unit % parts * kLongest;
    s.first = rest * inner + skip;
    s.count = std::min(kLongest, inner - skip);
    for (int o = 0; o < kOperands; ++o) {
      s.step[o] = last < 0 ? 0 : strides.of[o][last];
      s.at[o] = skip * s.step[o];
    }
    for (int d = last - 1; d >= 0; --d) {
      for (int o = 0; o < kOperands; ++o) s.at[o] += rest % shape[d] * strides.of[o][d];
      rest /= shape[d];
    }
    f(s);
  }
}

template <class T>
T value(const Case& c, const Pointers& at, const Segment& s, int operand, int64_t i) {
  const int64_t element = s.at[operand] + i * s.step[operand];
  return static_cast<T>(
      oracle::decode(c.dtype, oracle::load(c.dtype, at.in[operand] + element * mseloss::size_of(c.dtype))));
}

template <class T>
std::string check_elements(const Case& c, const Pointers& at) {
  const int64_t size = mseloss::size_of(c.dtype);
  const int64_t count = c.op == Op::kFused ? c.numel() : oracle::count_of(c.view[kX].shape);
  const bool mean = c.reduction == Reduction::kMean;
  const T scale =
      mean ? static_cast<T>(oracle::two_over(static_cast<uint64_t>(count), sizeof(T) == 8 ? 53 : 24)) : 2;
  std::atomic<int64_t> wrong{-1};
  for_each_segment(c, [&](const Segment& s) {
    for (int64_t i = 0; i < s.count; ++i) {
      const T d = value<T>(c, at, s, kX, i) - value<T>(c, at, s, kY, i);
      T expected = d * d;
      if (c.op != Op::kLoss) {
        const T scaled = d * scale;
        expected = scaled * value<T>(c, at, s, kG, i);
      }
      const char* out = at.out + (s.at[kOut] + i * s.step[kOut]) * size;
      if (oracle::load(c.dtype, out) != encode(c.dtype, expected)) wrong = s.first + i;
    }
  });
  return wrong < 0 ? "" : "element " + std::to_string(wrong) + " differs from the scalar reference";
}

using Integer = unsigned __int128;

// numerator / divisor * 2^exponent, rounded once to the nearest even value of the dtype.
uint64_t rounded_quotient(DType dtype, Integer numerator, uint64_t divisor, int exponent) {
  if (numerator == 0) return 0;
  for (; numerator >> 127 == 0; numerator <<= 1) --exponent;
  Integer quotient = numerator / divisor;
  bool sticky = numerator % divisor != 0;
  while (quotient >> 54 != 0) sticky |= quotient & 1, quotient >>= 1, ++exponent;
  const auto bits = static_cast<uint64_t>(quotient) << 1 | sticky;
  if (dtype != DType::kFloat64) {
    // Rounding to odd with at least two extra bits makes the second rounding, in encode(), correct.
    const int drop = dtype == DType::kFloat32 ? 2 : 31;
    const uint64_t odd = (bits >> drop) | ((bits & ((uint64_t{1} << drop) - 1)) != 0);
    return encode(dtype, std::ldexp(static_cast<double>(odd), exponent - 1 + drop));
  }
  return std::bit_cast<uint64_t>(std::ldexp(static_cast<double>(bits), exponent - 1));
}

// Every difference is a multiple of 2^-grid_bits, so the sum of squares is an exact integer in units of its
// square.
template <class T>
std::string check_sum(const Case& c, const Pointers& at) {
  const int bits = grid_bits(c.dtype);
  Integer sum = 0;
  for_each_segment(c, [&](const Segment& s) {
    Integer part = 0;
    for (int64_t i = 0; i < s.count; ++i) {
      const T d = value<T>(c, at, s, kX, i) - value<T>(c, at, s, kY, i);
      const auto units = static_cast<uint64_t>(std::ldexp(std::fabs(static_cast<double>(d)), bits));
      part += static_cast<Integer>(units) * units;
    }
#pragma omp critical
    sum += part;
  });
  const uint64_t divisor = c.reduction == Reduction::kMean ? static_cast<uint64_t>(c.numel()) : 1;
  const uint64_t expected = rounded_quotient(c.dtype, sum, divisor, -2 * bits);
  return oracle::load(c.dtype, at.loss) == expected ? "" : "the loss is not correctly rounded";
}

}  // namespace

std::string check(const Case& c, const Pointers& at) {
  const bool wide = c.dtype == DType::kFloat64;
  if (c.op != Op::kGrad && c.reduction != Reduction::kNone) {
    std::string text = wide ? check_sum<double>(c, at) : check_sum<float>(c, at);
    if (!text.empty() || c.op == Op::kLoss) return text;
  }
  return wide ? check_elements<double>(c, at) : check_elements<float>(c, at);
}

}  // namespace bench
