// Conversions of the Cast instruction, on bit patterns. Only RINT, which the operator uses, has a fast path.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/units.h"

namespace ascend_model {
namespace {

uint32_t Bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

struct Format {
  int fraction;      // bits
  int min_exponent;  // of a normal number
  uint16_t infinity;
  uint16_t nan;
};
constexpr Format kHalf = {10, -14, 0x7C00, 0x7E00};
constexpr Format kBfloat = {7, -126, 0x7F80, 0x7FC0};

// Rounds the magnitude `value` to an integer under `mode`; `negative` is the sign of the number.
double RoundToInteger(double value, Rounding mode, bool negative) {
  const double down = std::floor(value);
  const double fraction = value - down;
  bool up = false;
  switch (mode) {
    case Rounding::kNone:
    case Rounding::kRint:
      up = fraction > 0.5 || (fraction == 0.5 && std::fmod(down, 2.0) == 1.0);
      break;
    case Rounding::kFloor:
      up = negative && fraction > 0;
      break;
    case Rounding::kCeil:
      up = !negative && fraction > 0;
      break;
    case Rounding::kRound:
      up = fraction >= 0.5;
      break;
    case Rounding::kTrunc:
      break;
    case Rounding::kOdd:
      up = fraction > 0 && std::fmod(down, 2.0) == 0.0;
      break;
  }
  return up ? down + 1 : down;
}

uint16_t NarrowGeneric(float value, const Format& format, Rounding mode) {
  const bool negative = std::signbit(value);
  const double magnitude = std::fabs(static_cast<double>(value));
  int exponent = format.min_exponent;
  if (magnitude != 0) {
    exponent = std::max(exponent, std::ilogb(magnitude));
  }
  const double ulps = RoundToInteger(std::ldexp(magnitude, format.fraction - exponent), mode, negative);
  // Encodings of one sign are consecutive integers, so a carry into the exponent needs no special case.
  const int64_t biased = exponent - format.min_exponent;
  int64_t code = static_cast<int64_t>(ulps) + (biased << format.fraction);
  if (code > format.infinity) {
    code = format.infinity;
  }
  return static_cast<uint16_t>((negative ? 0x8000 : 0) | code);
}

uint16_t Special(float value, const Format& format, bool saturate, uint16_t code) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) {
    return saturate ? 0 : static_cast<uint16_t>(sign | format.nan);
  }
  if (saturate && (code & 0x7FFF) >= format.infinity) {
    return static_cast<uint16_t>(sign | (format.infinity - 1));
  }
  return code;
}

}  // namespace

float BfloatToFloat(uint16_t bits) { return FromBits(static_cast<uint32_t>(bits) << 16); }

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t magnitude_bits = bits & 0x7FFF;
  if (magnitude_bits >= 0x7C00) {
    return FromBits(sign | 0x7F800000 | (magnitude_bits & 0x3FF) << 13);
  }
  if (magnitude_bits < 0x400) {  // subnormal: a multiple of 2^-24
    const float magnitude = static_cast<float>(magnitude_bits) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return FromBits(sign | ((magnitude_bits << 13) + 0x38000000));
}

uint16_t FloatToHalf(float value, Rounding mode, bool saturate) {
  const uint32_t bits = Bits(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude >= 0x7F800000) {
    return Special(value, kHalf, saturate, static_cast<uint16_t>(sign | kHalf.infinity));
  }
  uint16_t code;
  if (mode != Rounding::kRint && mode != Rounding::kNone) {
    code = NarrowGeneric(value, kHalf, mode);
  } else if (magnitude >= 0x47800000) {
    code = sign | kHalf.infinity;
  } else if (magnitude < 0x38800000) {  // the ulp of 0.5 is that of a subnormal, so the addition rounds
    code = static_cast<uint16_t>(sign | (Bits(FromBits(magnitude) + 0.5f) - 0x3F000000));
  } else {
    code = static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
  }
  return Special(value, kHalf, saturate, code);
}

uint16_t FloatToBfloat(float value, Rounding mode, bool saturate) {
  const uint32_t bits = Bits(value);
  if ((bits & 0x7FFFFFFF) >= 0x7F800000) {
    return Special(value, kBfloat, saturate, static_cast<uint16_t>((bits >> 16 & 0x8000) | kBfloat.infinity));
  }
  const uint16_t code = mode == Rounding::kRint || mode == Rounding::kNone
                            ? static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
                            : NarrowGeneric(value, kBfloat, mode);
  return Special(value, kBfloat, saturate, code);
}

}  // namespace ascend_model
