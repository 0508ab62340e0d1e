#include "numerics/fixed_point.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "numerics/formats.h"

namespace mseloss {
namespace {

using Wide = unsigned __int128;

}  // namespace

// Adds or subtracts the integer of `count` <= 3 words shifted left by `bit`, and propagates the carry.
MSELOSS_HOST_DEVICE void FixedPoint::add_at(const uint64_t* words, int count, int bit, bool negative) {
  const int limb = bit / 64, shift = bit % 64;
  uint64_t parts[4] = {};
  for (int i = 0; i < count; ++i) {
    parts[i] |= words[i] << shift;
    if (shift != 0) parts[i + 1] = words[i] >> (64 - shift);
  }
  uint64_t carry = 0;
  for (int i = limb; i < kLimbs; ++i) {
    const uint64_t part = i - limb <= count ? parts[i - limb] : 0;
    if (i - limb > count && carry == 0) return;
    const Wide sum = negative ? Wide{limbs_[i]} - part - carry : Wide{limbs_[i]} + part + carry;
    limbs_[i] = static_cast<uint64_t>(sum);
    carry = static_cast<uint64_t>(sum >> 64) & 1;
  }
}

MSELOSS_HOST_DEVICE void FixedPoint::add(double value) {
  const Decomposed own = decompose(value);
  if (own.significand != 0) add_at(&own.significand, 1, own.exponent - kLowestBit, std::signbit(value));
}

MSELOSS_HOST_DEVICE void FixedPoint::add_integer(uint64_t value) { add_at(&value, 1, -kLowestBit, false); }

MSELOSS_HOST_DEVICE void FixedPoint::add_product(double weight, double value) {
  const Decomposed root = decompose(value), factor = decompose(weight);
  if (root.significand == 0 || factor.significand == 0) return;
  const Wide square = Wide{root.significand} * root.significand;
  const Wide low = Wide{static_cast<uint64_t>(square)} * factor.significand;
  const Wide high = (square >> 64) * factor.significand + (low >> 64);
  const uint64_t words[3] = {static_cast<uint64_t>(low), static_cast<uint64_t>(high),
                             static_cast<uint64_t>(high >> 64)};
  add_at(words, 3, 2 * root.exponent + factor.exponent - kLowestBit, std::signbit(weight));
}

MSELOSS_HOST_DEVICE void FixedPoint::add(const FixedPoint& other) {
  uint64_t carry = 0;
  for (int i = 0; i < kLimbs; ++i) {
    const Wide sum = Wide{limbs_[i]} + other.limbs_[i] + carry;
    limbs_[i] = static_cast<uint64_t>(sum);
    carry = static_cast<uint64_t>(sum >> 64);
  }
}

namespace {

MSELOSS_HOST_DEVICE int leading_zeros(uint64_t value) {
#if defined(__CUDA_ARCH__)
  return __clzll(static_cast<long long>(value));
#else
  return std::countl_zero(value);
#endif
}

MSELOSS_HOST_DEVICE int highest_bit(const uint64_t* limbs) {  // -1: zero
  for (int i = FixedPoint::kLimbs; i-- > 0;) {
    if (limbs[i] != 0) return 64 * i + 63 - leading_zeros(limbs[i]);
  }
  return -1;
}

// Bits low .. low + 63; bits below 0 are zero.
MSELOSS_HOST_DEVICE uint64_t extract(const uint64_t* limbs, int low) {
  if (low < 0) return low <= -64 ? 0 : limbs[0] << -low;
  const int limb = low / 64, shift = low % 64;
  const uint64_t above = limb + 1 < FixedPoint::kLimbs ? limbs[limb + 1] : 0;
  return shift == 0 ? limbs[limb] : limbs[limb] >> shift | above << (64 - shift);
}

MSELOSS_HOST_DEVICE bool any_below(const uint64_t* limbs, int bit) {
  for (int i = 0; i < FixedPoint::kLimbs && 64 * i < bit; ++i) {
    const int bits = bit - 64 * i;
    const uint64_t mask = bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    if ((limbs[i] & mask) != 0) return true;
  }
  return false;
}

}  // namespace

MSELOSS_HOST_DEVICE int FixedPoint::sign() const {
  if (limbs_[kLimbs - 1] >> 63 != 0) return -1;
  uint64_t any = 0;
  for (int i = 0; i < kLimbs; ++i) any |= limbs_[i];
  return any != 0;
}

MSELOSS_HOST_DEVICE void FixedPoint::magnitude(uint64_t* magnitude) const {
  const bool negative = limbs_[kLimbs - 1] >> 63 != 0;
  uint64_t carry = negative;
  for (int i = 0; i < kLimbs; ++i) {
    magnitude[i] = (negative ? ~limbs_[i] : limbs_[i]) + carry;
    carry = carry != 0 && magnitude[i] == 0;
  }
}

MSELOSS_HOST_DEVICE void FixedPoint::multiply(uint64_t factor) {
  uint64_t carry = 0;
  for (int i = 0; i < kLimbs; ++i) {
    const Wide product = Wide{limbs_[i]} * factor + carry;
    limbs_[i] = static_cast<uint64_t>(product);
    carry = static_cast<uint64_t>(product >> 64);
  }
}

MSELOSS_HOST_DEVICE void FixedPoint::to_double_double(double* high, double* low) const {
  uint64_t absolute[kLimbs];
  magnitude(absolute);
  const int top = highest_bit(absolute);
  *high = *low = 0;
  if (top < 0) return;
  // 53 bits each, so both conversions are exact.
  const int first = top - 52, second = top - 105;
  const uint64_t mask = (uint64_t{1} << 53) - 1;
  *high = std::ldexp(static_cast<double>(extract(absolute, first) & mask), first + kLowestBit);
  *low = std::ldexp(static_cast<double>(extract(absolute, second) & mask), second + kLowestBit);
  if (sign() < 0) {
    *high = -*high;
    *low = -*low;
  }
}

namespace {

// kept * 2^last, plus a half of that unit and a sticky bit below it, rounded to nearest even.
MSELOSS_HOST_DEVICE double round_up_or_down(uint64_t kept, bool half, bool sticky, int last,
                                            const Format& format) {
  if (half && (sticky || (kept & 1) != 0)) ++kept;
  const double rounded = std::ldexp(static_cast<double>(kept), last);
  return rounded < std::ldexp(1.0, format.max_exponent) * 2 ? rounded : INFINITY;
}

}  // namespace

MSELOSS_HOST_DEVICE double FixedPoint::divide_and_round(uint64_t divisor, DType dtype, uint64_t* work) const {
  // Bit 0 lies below half the smallest subnormal of every format, so the integer quotient has all the bits
  // that decide the rounding; the remainder only contributes to the sticky bit.
  uint64_t* const quotient = work;
  magnitude(quotient);
  const double zero = sign() < 0 ? -0.0 : 0.0;
  const int dividend_top = highest_bit(quotient);
  if (dividend_top < 0) return zero;
  // Three limbs give the 54 bits that the result can need and at least one more. The limbs below stay as they
  // are: not zero, they leave a remainder.
  const int first = dividend_top / 64;
  Wide remainder = 0;
  for (int i = first; i >= std::max(0, first - 2); --i) {
    const Wide dividend = remainder << 64 | quotient[i];
    quotient[i] = static_cast<uint64_t>(dividend / divisor);
    remainder = dividend % divisor;
  }
  const int top = highest_bit(quotient);
  if (top < 0) return zero;
  const Format format = format_of(dtype);
  const int last =
      std::max(top - format.precision + 1, format.lowest_bit - kLowestBit);  // kept bits: last..top
  const uint64_t kept = top < last ? 0 : extract(quotient, last) & (~uint64_t{0} >> (63 - (top - last)));
  const bool half = extract(quotient, last - 1) & 1;
  const bool sticky = remainder != 0 || any_below(quotient, last - 1);
  return std::copysign(round_up_or_down(kept, half, sticky, last + kLowestBit, format), zero);
}

MSELOSS_HOST_DEVICE double FixedPoint::divide_and_round(const FixedPoint& divisor, DType dtype,
                                                        uint64_t* work) const {
  const int own_sign = sign(), divisor_sign = divisor.sign();
  if (divisor_sign == 0) return own_sign == 0 ? NAN : std::copysign(INFINITY, own_sign);
  if (own_sign == 0) return 0;
  // Both magnitudes are shifted so that their highest bits align, with one limb of headroom; then each step
  // of the long division gives one bit.
  constexpr int kWords = kLimbs + 1, kBits = 66;
  uint64_t *const a = work, *const b = work + kWords;
  a[kLimbs] = b[kLimbs] = 0;
  magnitude(a);
  divisor.magnitude(b);
  const auto align = [](uint64_t* words) -> int {  // returns the position of the highest bit before the shift
    const int top = highest_bit(words), shift = 64 * kLimbs - 1 - top, limbs = shift / 64, bits = shift % 64;
    for (int i = kLimbs; i-- > 0;) {
      const uint64_t low = i - limbs >= 0 ? words[i - limbs] : 0,
                     below = i - limbs >= 1 ? words[i - limbs - 1] : 0;
      words[i] = bits == 0 ? low : low << bits | below >> (64 - bits);
    }
    return top;
  };
  const int exponent = align(a) - align(b);
  Wide quotient = 0;  // floor(2^kBits * a / b), of kBits or kBits + 1 bits
  for (int bit = 0; bit <= kBits; ++bit) {
    int i = kWords - 1;
    while (i > 0 && a[i] == b[i]) --i;
    quotient <<= 1;
    if (a[i] >= b[i]) {
      quotient |= 1;
      uint64_t borrow = 0;
      for (i = 0; i < kWords; ++i) {
        const Wide difference = Wide{a[i]} - b[i] - borrow;
        a[i] = static_cast<uint64_t>(difference);
        borrow = static_cast<uint64_t>(difference >> 64) & 1;
      }
    }
    for (i = kWords; i-- > 0;) a[i] = a[i] << 1 | (i > 0 ? a[i - 1] >> 63 : 0);
  }
  bool remainder = false;
  for (int i = 0; i < kWords; ++i) remainder = remainder || a[i] != 0;
  const int unit = exponent - kBits, top = quotient >> kBits != 0 ? kBits : kBits - 1;
  const Format format = format_of(dtype);
  const int last = std::max(top - format.precision + 1, format.lowest_bit - unit);
  const double sign = own_sign == divisor_sign ? 1 : -1;
  if (last > top + 1) return std::copysign(0.0, sign);  // below half the smallest subnormal
  const Wide below = quotient & ((Wide{1} << (last - 1)) - 1);
  const auto kept = static_cast<uint64_t>(quotient >> last);
  const bool half = (quotient >> (last - 1) & 1) != 0;
  return std::copysign(round_up_or_down(kept, half, remainder || below != 0, last + unit, format), sign);
}

}  // namespace mseloss
