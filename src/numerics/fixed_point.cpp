#include "numerics/fixed_point.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "numerics/formats.h"

namespace mseloss {
namespace {

using Wide = unsigned __int128;

// value = mantissa * 2^exponent with an integer mantissa of at most 53 bits.
uint64_t decompose(double value, int* exponent) {
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  const int biased = static_cast<int>(bits >> 52 & 0x7ff);
  const uint64_t fraction = bits & ((uint64_t{1} << 52) - 1);
  *exponent = (biased == 0 ? 1 : biased) - 1075;
  return biased == 0 ? fraction : fraction | uint64_t{1} << 52;
}

}  // namespace

// Adds or subtracts the 128-bit integer shifted left by `bit`, and propagates the carry.
void FixedPoint::add_at(uint64_t low, uint64_t high, int bit, bool negative) {
  const int limb = bit / 64, shift = bit % 64;
  const uint64_t parts[3] = {low << shift, shift == 0 ? high : (low >> (64 - shift) | high << shift),
                             shift == 0 ? 0 : high >> (64 - shift)};
  uint64_t carry = 0;
  for (int i = limb; i < kLimbs; ++i) {
    const uint64_t part = i - limb < 3 ? parts[i - limb] : 0;
    if (i - limb >= 3 && carry == 0) return;
    const Wide sum = negative ? Wide{limbs_[i]} - part - carry : Wide{limbs_[i]} + part + carry;
    limbs_[i] = static_cast<uint64_t>(sum);
    carry = static_cast<uint64_t>(sum >> 64) & 1;
  }
}

void FixedPoint::add(double value) {
  int exponent;
  const uint64_t mantissa = decompose(value, &exponent);
  if (mantissa != 0) add_at(mantissa, 0, exponent - kLowestBit, std::signbit(value));
}

void FixedPoint::add_square(double value) {
  int exponent;
  const uint64_t mantissa = decompose(value, &exponent);
  const Wide square = Wide{mantissa} * mantissa;
  if (square != 0) {
    add_at(static_cast<uint64_t>(square), static_cast<uint64_t>(square >> 64), 2 * exponent - kLowestBit,
           false);
  }
}

void FixedPoint::add(const FixedPoint& other) {
  uint64_t carry = 0;
  for (int i = 0; i < kLimbs; ++i) {
    const Wide sum = Wide{limbs_[i]} + other.limbs_[i] + carry;
    limbs_[i] = static_cast<uint64_t>(sum);
    carry = static_cast<uint64_t>(sum >> 64);
  }
}

namespace {

int highest_bit(const uint64_t* limbs) {  // -1: zero
  for (int i = FixedPoint::kLimbs; i-- > 0;) {
    if (limbs[i] != 0) return 64 * i + 63 - std::countl_zero(limbs[i]);
  }
  return -1;
}

// Bits low .. low + 63; bits below 0 are zero.
uint64_t extract(const uint64_t* limbs, int low) {
  if (low < 0) return low <= -64 ? 0 : limbs[0] << -low;
  const int limb = low / 64, shift = low % 64;
  const uint64_t above = limb + 1 < FixedPoint::kLimbs ? limbs[limb + 1] : 0;
  return shift == 0 ? limbs[limb] : limbs[limb] >> shift | above << (64 - shift);
}

bool any_below(const uint64_t* limbs, int bit) {
  for (int i = 0; i < FixedPoint::kLimbs && 64 * i < bit; ++i) {
    const int bits = bit - 64 * i;
    const uint64_t mask = bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    if ((limbs[i] & mask) != 0) return true;
  }
  return false;
}

}  // namespace

void FixedPoint::to_double_double(double* high, double* low) const {
  const int top = highest_bit(limbs_);
  *high = *low = 0;
  if (top < 0) return;
  // 53 bits each, so both conversions are exact.
  const int first = top - 52, second = top - 105;
  const uint64_t mask = (uint64_t{1} << 53) - 1;
  *high = std::ldexp(static_cast<double>(extract(limbs_, first) & mask), first + kLowestBit);
  *low = std::ldexp(static_cast<double>(extract(limbs_, second) & mask), second + kLowestBit);
}

double FixedPoint::divide_and_round(uint64_t divisor, DType dtype) const {
  // Bit 0 lies below half the smallest subnormal of every format, so the integer quotient has all the bits
  // that decide the rounding; the remainder only contributes to the sticky bit.
  uint64_t quotient[kLimbs];
  Wide remainder = 0;
  for (int i = kLimbs; i-- > 0;) {
    const Wide dividend = remainder << 64 | limbs_[i];
    quotient[i] = static_cast<uint64_t>(dividend / divisor);
    remainder = dividend % divisor;
  }
  const int top = highest_bit(quotient);
  if (top < 0) return 0;
  const Format format = format_of(dtype);
  const int last =
      std::max(top - format.precision + 1, format.lowest_bit - kLowestBit);  // kept bits: last..top
  uint64_t kept = top < last ? 0 : extract(quotient, last) & (~uint64_t{0} >> (63 - (top - last)));
  const bool half = extract(quotient, last - 1) & 1;
  const bool sticky = remainder != 0 || any_below(quotient, last - 1);
  if (half && (sticky || (kept & 1) != 0)) ++kept;
  const double rounded = std::ldexp(static_cast<double>(kept), last + kLowestBit);
  return rounded < std::ldexp(1.0, format.max_exponent) * 2 ? rounded : INFINITY;
}

}  // namespace mseloss
