// The floating-point formats: parameters, rounding, load and store.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "mseloss/types.h"
#include "numerics/host_device.h"

namespace mseloss {

struct Format {
  int precision;     // significand bits, including the implicit one
  int max_exponent;  // of the largest finite value: |value| < 2^(max_exponent + 1)
  int lowest_bit;    // exponent of the smallest subnormal
};

MSELOSS_HOST_DEVICE inline Format format_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return {11, 15, -24};
    case DType::kBFloat16:
      return {8, 127, -133};
    case DType::kFloat64:
      return {53, 1023, -1074};
    case DType::kFloat32:
    case DType::kBool:  // never computed with
      break;
  }
  return {24, 127, -149};
}

// Rounds to nearest even in the format. The result is a double that the format represents, or an infinity.
MSELOSS_HOST_DEVICE inline double round_to(const Format& format, double value) {
  if (value == 0 || !std::isfinite(value) || format.precision == 53) return value;
  if (format.precision == 24) return static_cast<float>(value);
  int exponent;  // value = fraction * 2^exponent, fraction in [0.5, 1)
  std::frexp(value, &exponent);
  const int last_bit = std::max(exponent - format.precision, format.lowest_bit);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -last_bit)), last_bit);
  if (std::fabs(rounded) < std::ldexp(1.0, format.max_exponent) * 2) return rounded;
  return std::copysign(INFINITY, value);
}

// The magnitude of a finite value as significand * 2^exponent, an integer of at most 53 bits.
struct Decomposed {
  uint64_t significand;
  int exponent;
};
MSELOSS_HOST_DEVICE inline Decomposed decompose(double value) {
  const uint64_t bits = std::bit_cast<uint64_t>(value), fraction = bits & ((uint64_t{1} << 52) - 1);
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
  if (exponent == 0) return {fraction, -1074};
  return {fraction | uint64_t{1} << 52, exponent - 1075};
}

template <class T>
void write_unaligned(T value, void* out) {
  std::memcpy(out, &value, sizeof(value));
}

template <class T>
T read_unaligned(const void* in) {
  T value;
  std::memcpy(&value, in, sizeof(value));
  return value;
}

// The encoding of a value that the format represents exactly (as round_to() returns), or of a NaN.
MSELOSS_HOST_DEVICE inline uint64_t encode_exact(double value, DType dtype) {
  if (dtype == DType::kFloat64) return std::bit_cast<uint64_t>(value);
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  if (dtype == DType::kFloat32) return bits;
  if (dtype == DType::kBFloat16) return bits >> 16 | (std::isnan(value) ? 0x40 : 0);
  // Subnormals count units of 2^-24. A normal float16 has the exponent and fraction bits of its float, after
  // a change of bias from 127 to 15.
  const uint32_t sign = bits >> 31 << 15;
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7e00;
  if (std::isinf(value)) return sign | 0x7c00;
  if (magnitude < 0x1p-14) return sign | static_cast<uint32_t>(magnitude * 0x1p24);
  return sign | (((bits & 0x7fff'ffff) >> 13) - ((127 - 15) << 10));
}

// Marks an element that the exact sweep has yet to compute: a NaN with a payload ("pe" or "pend" in ASCII,
// where it has room) that no operation returns.
MSELOSS_HOST_DEVICE inline uint64_t pending_bits(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x7ff8'0000'7065'6e64;
    case DType::kFloat16:
      return 0x7e70;
    case DType::kBFloat16:
      return 0x7fd0;
    case DType::kFloat32:
    case DType::kBool:  // never written
      break;
  }
  return 0x7fc0'7065;
}

inline void store_bits(uint64_t bits, DType dtype, void* out) {
  switch (size_of(dtype)) {
    case 8:
      return write_unaligned(bits, out);
    case 4:
      return write_unaligned(static_cast<uint32_t>(bits), out);
    case 2:
      return write_unaligned(static_cast<uint16_t>(bits), out);
  }
}

inline void store_exact(double value, DType dtype, void* out) {
  store_bits(encode_exact(value, dtype), dtype, out);
}
inline void store_pending(DType dtype, void* out) { store_bits(pending_bits(dtype), dtype, out); }

inline bool is_pending(DType dtype, const void* in) {
  switch (size_of(dtype)) {
    case 8:
      return read_unaligned<uint64_t>(in) == pending_bits(dtype);
    case 4:
      return read_unaligned<uint32_t>(in) == pending_bits(dtype);
    default:
      return read_unaligned<uint16_t>(in) == pending_bits(dtype);
  }
}

inline void store_rounded(double value, DType dtype, void* out) {
  store_exact(round_to(format_of(dtype), value), dtype, out);
}

// Loads one element as a double; exact.
inline double load(DType dtype, const void* in) {
  switch (dtype) {
    case DType::kBool:
      return read_unaligned<uint8_t>(in) != 0;
    case DType::kFloat64:
      return read_unaligned<double>(in);
    case DType::kFloat32:
      return read_unaligned<float>(in);
    case DType::kBFloat16:
      return std::bit_cast<float>(uint32_t{read_unaligned<uint16_t>(in)} << 16);
    case DType::kFloat16:
      break;
  }
  const auto half = read_unaligned<uint16_t>(in);
  const int exponent = half >> 10 & 31, fraction = half & 0x3ff;
  double value;
  if (exponent == 31) {
    value = fraction == 0 ? INFINITY : NAN;
  } else {
    value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25);
  }
  return half & 0x8000 ? -value : value;
}

}  // namespace mseloss
