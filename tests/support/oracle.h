// Reference implementation of every operator: scalar code that follows the definitions in docs/operator.md
// and returns the exact bits. Shares no code with src/, only the types of the public header.
#pragma once

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <span>
#include <vector>

#include "mseloss/types.h"

namespace oracle {

using mseloss::ConstTensor;
using mseloss::DType;
using mseloss::Reduction;

static_assert(FLT_EVAL_METHOD == 0, "float operations must round to float");

// A binary floating-point format. The magnitude of every finite value is an integer of at most `precision`
// bits times 2^k with k >= lowest_exponent, and is less than 2^(max_exponent + 1).
struct Format {
  int bytes, precision, lowest_exponent, max_exponent;
};

constexpr Format format_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return {2, 11, -24, 15};
    case DType::kBFloat16:
      return {2, 8, -133, 127};
    case DType::kFloat32:
      return {4, 24, -149, 127};
    default:
      return {8, 53, -1074, 1023};
  }
}

inline int bytes_of(DType dtype) { return oracle::format_of(dtype).bytes; }

// The value of `format` nearest to v, ties to even.
inline double round_to(const Format& format, double v) {
  if (v == 0 || !std::isfinite(v) || format.precision == 53) return v;
  int exponent;
  std::frexp(v, &exponent);  // |v| < 2^exponent
  const int unit = std::max(exponent - format.precision, format.lowest_exponent);
  const double units = std::ldexp(v, -unit);
  double integer = std::trunc(units);
  const double fraction = std::fabs(units - integer);
  if (fraction > 0.5 || (fraction == 0.5 && std::fmod(integer, 2) != 0)) integer += std::copysign(1.0, v);
  const double rounded = std::copysign(std::ldexp(integer, unit), v);
  return std::fabs(rounded) < std::ldexp(1.0, format.max_exponent) * 2
             ? rounded
             : std::copysign(std::numeric_limits<double>::infinity(), v);
}

// The encoding of v rounded to `format`.
inline uint64_t encode_as(const Format& format, double v) {
  const int p = format.precision, bias = format.max_exponent;
  const uint64_t sign = static_cast<uint64_t>(std::signbit(v)) << (8 * format.bytes - 1);
  const uint64_t infinity = static_cast<uint64_t>(2 * bias + 1) << (p - 1);
  if (std::isnan(v)) return infinity | uint64_t{1} << (p - 2);
  v = std::fabs(round_to(format, v));
  if (std::isinf(v)) return sign | infinity;
  if (v < std::ldexp(1.0, 1 - bias))
    return sign | static_cast<uint64_t>(std::ldexp(v, -format.lowest_exponent));
  const int exponent = std::ilogb(v);
  // Bit p - 1 of the significand is set and adds 1 to the exponent field.
  const auto significand = static_cast<uint64_t>(std::ldexp(v, p - 1 - exponent));
  return sign | ((static_cast<uint64_t>(exponent + bias - 1) << (p - 1)) + significand);
}

inline double decode_as(const Format& format, uint64_t bits) {
  const int p = format.precision, bias = format.max_exponent;
  const bool negative = bits >> (8 * format.bytes - 1) & 1;
  const uint64_t fraction = bits & ((uint64_t{1} << (p - 1)) - 1);
  const int field = static_cast<int>(bits >> (p - 1) & static_cast<uint64_t>(2 * bias + 1));
  double v;
  if (field == 2 * bias + 1)
    v = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  else if (field == 0)
    v = std::ldexp(static_cast<double>(fraction), format.lowest_exponent);
  else
    v = std::ldexp(static_cast<double>(fraction | uint64_t{1} << (p - 1)), field - bias - (p - 1));
  return negative ? -v : v;
}

// The processor converts float32 and float64; the half formats use encode_as and decode_as. numerics_test.cpp
// compares the two methods for float32 and float64.
inline uint64_t encode(DType dtype, double v) {
  if (dtype == DType::kFloat32) return std::bit_cast<uint32_t>(static_cast<float>(v));
  if (dtype == DType::kFloat64) return std::bit_cast<uint64_t>(v);
  return encode_as(oracle::format_of(dtype), v);
}

inline double decode(DType dtype, uint64_t bits) {
  if (dtype == DType::kFloat32) return std::bit_cast<float>(static_cast<uint32_t>(bits));
  if (dtype == DType::kFloat64) return std::bit_cast<double>(bits);
  static const auto halves = [](DType half) {
    std::vector<double> values(65536);
    for (uint32_t i = 0; i < 65536; ++i) values[i] = decode_as(oracle::format_of(half), i);
    return values;
  };
  static const std::vector<double> float16 = halves(DType::kFloat16), bfloat16 = halves(DType::kBFloat16);
  return (dtype == DType::kFloat16 ? float16 : bfloat16)[bits & 0xffff];
}

inline uint64_t load(DType dtype, const void* p) {  // any alignment; assumes a little-endian machine
  uint64_t bits = 0;
  std::memcpy(&bits, p, bytes_of(dtype));
  return bits;
}

inline void store(DType dtype, void* p, uint64_t bits) { std::memcpy(p, &bits, bytes_of(dtype)); }

// Bitwise equality, except that all NaNs compare equal.
inline bool same(DType dtype, uint64_t a, uint64_t b) {
  return a == b || (std::isnan(decode(dtype, a)) && std::isnan(decode(dtype, b)));
}

inline DType promoted_dtype(DType a, DType b) {
  if (a == b) return a;
  return a == DType::kFloat64 || b == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

// 2 / n correctly rounded to `precision` bits: the integer quotient has two extra bits, and the remainder is
// the sticky bit.
inline double two_over(uint64_t n, int precision) {
  if (n == 0) return std::numeric_limits<double>::infinity();
  unsigned __int128 numerator = 2;
  int shift = 0;
  while (numerator / n >> (precision + 1) == 0) numerator <<= 1, ++shift;
  const auto quotient = static_cast<uint64_t>(numerator / n);
  const uint64_t dropped = (quotient & 3) << 1 | (numerator % n != 0);
  uint64_t kept = quotient >> 2;
  if (dropped > 4 || (dropped == 4 && (kept & 1))) ++kept;
  return std::ldexp(static_cast<double>(kept), 2 - shift);
}

using Shape = std::vector<int64_t>;
using Extents = std::span<const int64_t>;

inline int64_t count_of(Extents shape) {
  int64_t n = 1;
  for (int64_t extent : shape) n *= extent;
  return n;
}

inline Shape broadcast(std::initializer_list<Extents> shapes) {
  size_t rank = 0;
  for (Extents s : shapes) rank = std::max(rank, s.size());
  Shape all(rank, 1);
  for (Extents s : shapes)
    for (size_t k = 0; k < s.size(); ++k)
      if (s[k] != 1) all[rank - s.size() + k] = s[k];
  return all;
}

// The offset, in elements, of the element that a tensor broadcast to `all` has at row-major index i.
inline int64_t offset_of(Extents shape, Extents strides, Extents all, int64_t i) {
  int64_t offset = 0, dense = 1;
  for (size_t k = all.size(); k-- > 0;) {
    const int64_t index = i % all[k];
    i /= all[k];
    const size_t missing = all.size() - shape.size();
    if (k < missing) continue;
    const int64_t extent = shape[k - missing];
    if (extent != 1) offset += index * (strides.empty() ? dense : strides[k - missing]);
    dense *= extent;
  }
  return offset;
}

inline uint64_t bits_at(const ConstTensor& t, Extents all, int64_t i) {
  return oracle::load(
      t.dtype, static_cast<const char*>(t.data) + offset_of(t.shape, t.strides, all, i) * bytes_of(t.dtype));
}

inline double value_at(const ConstTensor& t, Extents all, int64_t i) {
  return decode(t.dtype, bits_at(t, all, i));
}

template <class T>
T difference(double x, double y) {
  return static_cast<T>(x) - static_cast<T>(y);
}

// Three operations in T, each rounded; the result is rounded to the inputs' dtype, then to `out`.
template <class T>
uint64_t grad_element(double g, double x, double y, T scale, DType dtype, DType out) {
  const T scaled = difference<T>(x, y) * scale;
  const T r = scaled * static_cast<T>(g);
  return encode(out, decode(dtype, encode(dtype, r)));
}

using Bits = std::vector<uint64_t>;

template <class F>
Bits each(Extents all, F element) {
  Bits result(static_cast<size_t>(count_of(all)));
  for (size_t i = 0; i < result.size(); ++i) result[i] = element(static_cast<int64_t>(i));
  return result;
}

// `mean_count` is the divisor of kMean: numel(input) for grad, the broadcast count for loss_and_grad.
inline Bits grad(const ConstTensor& g, const ConstTensor& x, const ConstTensor& y, Reduction reduction,
                 DType out, int64_t mean_count) {
  const Shape all = broadcast({g.shape, x.shape, y.shape});
  const DType dtype = promoted_dtype(g.dtype, promoted_dtype(x.dtype, y.dtype));
  const bool wide = dtype == DType::kFloat64;
  const double scale = reduction == Reduction::kMean ? two_over(mean_count, wide ? 53 : 24) : 2;
  return each(all, [&](int64_t i) {
    const double gi = value_at(g, all, i), xi = value_at(x, all, i), yi = value_at(y, all, i);
    return wide ? grad_element<double>(gi, xi, yi, scale, dtype, out)
                : grad_element<float>(gi, xi, yi, static_cast<float>(scale), dtype, out);
  });
}

inline Bits grad(const ConstTensor& g, const ConstTensor& x, const ConstTensor& y, Reduction reduction,
                 DType out) {
  return grad(g, x, y, reduction, out, count_of(x.shape));
}

// input - target for every element, rounded to the compute dtype.
inline std::vector<double> differences(const ConstTensor& x, const ConstTensor& y) {
  const Shape all = broadcast({x.shape, y.shape});
  const bool wide = promoted_dtype(x.dtype, y.dtype) == DType::kFloat64;
  std::vector<double> d(static_cast<size_t>(count_of(all)));
  for (size_t i = 0; i < d.size(); ++i) {
    const double xi = value_at(x, all, i), yi = value_at(y, all, i);
    d[i] = wide ? difference<double>(xi, yi) : difference<float>(xi, yi);
  }
  return d;
}

// The loss with Reduction::kNone.
inline Bits loss(const ConstTensor& x, const ConstTensor& y, DType out) {
  const bool wide = promoted_dtype(x.dtype, y.dtype) == DType::kFloat64;
  Bits result;
  for (double d : differences(x, y)) {
    const float narrow = static_cast<float>(d);
    result.push_back(encode(out, wide ? d * d : static_cast<double>(narrow * narrow)));
  }
  return result;
}

}  // namespace oracle
