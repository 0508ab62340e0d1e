#include "bench/measure/check.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <vector>

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
  const DType dtype = c.dtype_of(operand);
  const int64_t element = s.at[operand] + i * s.step[operand];
  return static_cast<T>(
      oracle::decode(dtype, oracle::load(dtype, at.in[operand] + element * mseloss::size_of(dtype))));
}

// The weight in units of 2^-kWeightBits; a mask counts elements.
uint64_t weight_units(const Case& c, const Pointers& at, const Segment& s, int64_t i) {
  if (!c.weighted) return 1;
  if (c.weight_dtype == DType::kBool) return at.in[kW][s.at[kW] + i * s.step[kW]] != 0;
  return static_cast<uint64_t>(std::ldexp(value<double>(c, at, s, kW, i), kWeightBits));
}

int weight_exponent(const Case& c) { return c.weighted && c.weight_dtype != DType::kBool ? -kWeightBits : 0; }

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

// The exact sums of one slice. Every difference is a multiple of 2^-grid_bits and every weight a multiple of
// 2^-kWeightBits, so both are integers in units of the products.
struct Sums {
  Integer squares = 0;
  uint64_t weights = 0;
};

// One for each loss, indexed by the address of the loss in elements.
template <class T>
std::vector<Sums> exact_sums(const Case& c, const Pointers& at) {
  const int bits = grid_bits(c.dtype);
  const auto slices = static_cast<size_t>(required_bytes(c.view[kLoss], c.dtype) / mseloss::size_of(c.dtype));
  std::vector<Sums> sums(slices);
  for_each_segment(c, [&](const Segment& s) {
    std::vector<Sums> part(s.step[kLoss] == 0 ? 1 : static_cast<size_t>(s.count));
    for (int64_t i = 0; i < s.count; ++i) {
      const T d = value<T>(c, at, s, kX, i) - value<T>(c, at, s, kY, i);
      const auto units = static_cast<uint64_t>(std::ldexp(std::fabs(static_cast<double>(d)), bits));
      const uint64_t weight = weight_units(c, at, s, i);
      Sums& own = part[part.size() == 1 ? 0 : static_cast<size_t>(i)];
      own.squares += static_cast<Integer>(units) * units * weight;
      own.weights += weight;
    }
#pragma omp critical
    for (size_t i = 0; i < part.size(); ++i) {
      Sums& total = sums[static_cast<size_t>(s.at[kLoss]) + i * static_cast<size_t>(s.step[kLoss])];
      total.squares += part[i].squares;
      total.weights += part[i].weights;
    }
  });
  return sums;
}

std::string check_sums(const Case& c, const Pointers& at, const std::vector<Sums>& sums) {
  const bool mean = c.reduction == Reduction::kMean;
  for (size_t i = 0; i < sums.size(); ++i) {
    const int exponent = -2 * grid_bits(c.dtype) + (mean ? 0 : weight_exponent(c));
    const uint64_t expected =
        rounded_quotient(c.dtype, sums[i].squares, mean ? sums[i].weights : 1, exponent);
    if (oracle::load(c.dtype, at.loss + i * static_cast<size_t>(mseloss::size_of(c.dtype))) != expected)
      return "loss " + std::to_string(i) + " is not correctly rounded";
  }
  return "";
}

// The scale of a mean's gradient: 2 / sum of weights, rounded to T. grad() without weights counts input.
template <class T>
T scale_of(const Case& c, const std::vector<Sums>& sums, size_t slice) {
  if (c.reduction != Reduction::kMean) return 2;
  const DType dtype = sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;
  if (c.op == Op::kGrad && !c.weighted) {
    const int64_t count = oracle::count_of(c.view[kX].shape);
    return static_cast<T>(oracle::two_over(static_cast<uint64_t>(count), sizeof(T) == 8 ? 53 : 24));
  }
  return static_cast<T>(
      oracle::decode(dtype, rounded_quotient(dtype, 2, sums[slice].weights, -weight_exponent(c))));
}

template <class T>
std::string check_elements(const Case& c, const Pointers& at, const std::vector<Sums>& sums) {
  const int64_t size = mseloss::size_of(c.dtype);
  std::vector<T> scales;
  if (c.op != Op::kLoss) {
    for (size_t i = 0; i < std::max<size_t>(sums.size(), 1); ++i) scales.push_back(scale_of<T>(c, sums, i));
  }
  const bool mask = c.weight_dtype == DType::kBool;
  std::atomic<int64_t> wrong{-1};
  for_each_segment(c, [&](const Segment& s) {
    for (int64_t i = 0; i < s.count; ++i) {
      const T d = value<T>(c, at, s, kX, i) - value<T>(c, at, s, kY, i);
      T expected = d * d;
      if (c.op != Op::kLoss) {
        const T scaled = d * scales[static_cast<size_t>(s.at[kLoss] + i * s.step[kLoss])];
        T factor = value<T>(c, at, s, kG, i);
        if (c.weighted && !mask) factor = value<T>(c, at, s, kW, i) * factor;
        expected = scaled * factor;
      }
      if (mask && weight_units(c, at, s, i) == 0) expected = 0;
      const char* out = at.out + (s.at[kOut] + i * s.step[kOut]) * size;
      if (oracle::load(c.dtype, out) != encode(c.dtype, expected)) wrong = s.first + i;
    }
  });
  return wrong < 0 ? "" : "element " + std::to_string(wrong) + " differs from the scalar reference";
}

template <class T>
std::string check_as(const Case& c, const Pointers& at) {
  std::vector<Sums> sums;
  if (c.reduction != Reduction::kNone && (c.op != Op::kGrad || c.weighted)) {
    sums = exact_sums<T>(c, at);
    if (c.op != Op::kGrad) {
      std::string text = check_sums(c, at, sums);
      if (!text.empty() || c.op == Op::kLoss) return text;
    }
  }
  return check_elements<T>(c, at, sums);
}

}  // namespace

std::string check(const Case& c, const Pointers& at) {
  return c.dtype == DType::kFloat64 ? check_as<double>(c, at) : check_as<float>(c, at);
}

}  // namespace bench
