// The floating-point formats: parameters, rounding, load and store.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "mseloss/types.h"

namespace mseloss {

struct Format {
  int precision;     // significand bits, including the implicit one
  int max_exponent;  // of the largest finite value: |value| < 2^(max_exponent + 1)
  int lowest_bit;    // exponent of the smallest subnormal
};

inline Format format_of(DType dtype) {
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
inline double round_to(const Format& format, double value) {
  if (value == 0 || !std::isfinite(value) || format.precision == 53) return value;
  if (format.precision == 24) return static_cast<float>(value);
  int exponent;  // value = fraction * 2^exponent, fraction in [0.5, 1)
  std::frexp(value, &exponent);
  const int last_bit = std::max(exponent - format.precision, format.lowest_bit);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -last_bit)), last_bit);
  if (std::fabs(rounded) < std::ldexp(1.0, format.max_exponent) * 2) return rounded;
  return std::copysign(INFINITY, value);
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

// Stores a value that the format represents exactly (as round_to() returns), or a NaN.
inline void store_exact(double value, DType dtype, void* out) {
  switch (dtype) {
    case DType::kBool:  // never written
      return;
    case DType::kFloat64:
      return write_unaligned(value, out);
    case DType::kFloat32:
      return write_unaligned(static_cast<float>(value), out);
    case DType::kBFloat16: {
      const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(value));
      return write_unaligned(static_cast<uint16_t>(bits >> 16 | (std::isnan(value) ? 0x40 : 0)), out);
    }
    case DType::kFloat16: {
      // Subnormals count units of 2^-24. A normal float16 has the exponent and fraction bits of its float,
      // after a change of bias from 127 to 15.
      uint16_t half = std::signbit(value) ? 0x8000 : 0;
      const double magnitude = std::fabs(value);
      if (std::isnan(value)) {
        half |= 0x7e00;
      } else if (std::isinf(value)) {
        half |= 0x7c00;
      } else if (magnitude < 0x1p-14) {
        half |= static_cast<uint16_t>(magnitude * 0x1p24);
      } else {
        const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(magnitude));
        half |= static_cast<uint16_t>((bits >> 13) - ((127 - 15) << 10));
      }
      return write_unaligned(half, out);
    }
  }
}

// A NaN that no result has, for elements of an output that are still to be computed.
inline void store_pending(DType dtype, void* out) {
  switch (dtype) {
    case DType::kFloat64:
      return write_unaligned(uint64_t{0x7ff8'0000'7065'6e64}, out);
    case DType::kFloat32:
      return write_unaligned(uint32_t{0x7fc0'7065}, out);
    case DType::kFloat16:
      return write_unaligned(uint16_t{0x7e70}, out);
    case DType::kBFloat16:
      return write_unaligned(uint16_t{0x7fd0}, out);
    case DType::kBool:
      return;
  }
}

inline bool is_pending(DType dtype, const void* in) {
  uint64_t pending = 0, bits = 0;
  store_pending(dtype, &pending);
  switch (size_of(dtype)) {  // constant sizes: a search reads every loss
    case 2:
      std::memcpy(&bits, in, 2);
      break;
    case 4:
      std::memcpy(&bits, in, 4);
      break;
    default:
      std::memcpy(&bits, in, 8);
  }
  return bits == pending;
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
