// Exact sums of squares in 4480-bit integers, rounded once: the reference for loss() with kSum and kMean.
// Shares no code with src/.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/oracle.h"

namespace exact {

using oracle::DType;
using oracle::Format;
using oracle::Reduction;

// A non-negative integer in units of 2^-2148, the smallest non-zero square of a float64. The largest square
// is below 2^2048, so 70 words leave room for 2^284 of them.
struct Fixed {
  static constexpr int kUnit = -2148;
  std::array<uint64_t, 70> words{};

  // Adds m * 2^exponent; exponent >= kUnit.
  void add(unsigned __int128 m, int exponent) {
    const int position = exponent - kUnit, bit = position % 64;
    size_t i = position / 64;
    const auto low = static_cast<uint64_t>(m), high = static_cast<uint64_t>(m >> 64);
    const uint64_t parts[3] = {low << bit, bit ? high << bit | low >> (64 - bit) : high,
                               bit ? high >> (64 - bit) : 0};
    unsigned __int128 carry = 0;
    for (size_t k = 0; i < words.size() && (k < 3 || carry); ++k, ++i) {
      carry += words[i];
      if (k < 3) carry += parts[k];
      words[i] = static_cast<uint64_t>(carry);
      carry >>= 64;
    }
  }
  void add(const Fixed& other) {
    unsigned __int128 carry = 0;
    for (size_t i = 0; i < words.size(); ++i) {
      carry += words[i];
      carry += other.words[i];
      words[i] = static_cast<uint64_t>(carry);
      carry >>= 64;
    }
  }
  void add_value(double v) {  // finite, >= 0
    int exponent;
    const double m = std::frexp(v, &exponent);
    exponent = std::max(exponent - 53, -1074);
    add(static_cast<uint64_t>(m == 0 ? 0 : std::ldexp(v, -exponent)), exponent);
  }
  void add_square(double d) {  // finite
    if (d == 0) return;
    int exponent;
    std::frexp(d, &exponent);
    exponent = std::max(exponent - 53, -1074);
    const auto m = static_cast<uint64_t>(std::ldexp(std::fabs(d), -exponent));
    add(static_cast<unsigned __int128>(m) * m, 2 * exponent);
  }
  friend bool operator<=(const Fixed& a, const Fixed& b) {
    for (size_t i = a.words.size(); i-- > 0;)
      if (a.words[i] != b.words[i]) return a.words[i] < b.words[i];
    return true;
  }
  bool bit(int i) const { return words[i / 64] >> (i % 64) & 1; }
};

// sum / divisor, rounded once to `format`, ties to even; infinity at and above the format's overflow
// threshold.
inline double round_quotient(const Fixed& sum, uint64_t divisor, const Format& format) {
  Fixed quotient;
  unsigned __int128 remainder = 0;
  for (size_t i = sum.words.size(); i-- > 0;) {
    remainder = remainder << 64 | sum.words[i];
    quotient.words[i] = static_cast<uint64_t>(remainder / divisor);
    remainder %= divisor;
  }
  int top = 64 * static_cast<int>(quotient.words.size()) - 1;
  while (top >= 0 && !quotient.bit(top)) --top;
  // Position of the result's last bit, at least 1074 in every format. The round bit is therefore a bit of the
  // quotient, and the remainder affects only the sticky bit.
  const int last = std::max(top - (format.precision - 1), format.lowest_exponent - Fixed::kUnit);
  uint64_t kept = 0;
  for (int i = top; i >= last; --i) kept = kept << 1 | quotient.bit(i);
  bool sticky = remainder != 0;
  for (int i = 0; i < last - 1 && !sticky; ++i) {
    if (i % 64 == 0 && i + 64 <= last - 1 && quotient.words[i / 64] == 0)
      i += 63;
    else
      sticky = quotient.bit(i);
  }
  if (quotient.bit(last - 1) && (sticky || (kept & 1))) ++kept;
  const int exponent = last + Fixed::kUnit;
  if (kept != 0 && static_cast<int>(std::bit_width(kept)) + exponent > format.max_exponent + 1)
    return std::numeric_limits<double>::infinity();
  return std::ldexp(static_cast<double>(kept), exponent);
}

// Accumulates squared differences. NaN takes precedence over infinity, infinity over any finite sum.
class Sum {
 public:
  void add(double d) {
    ++count_;
    if (std::isnan(d))
      nan_ = true;
    else if (std::isinf(d))
      infinite_ = true;
    else
      fixed_.add_square(d);
  }
  void add(const std::vector<double>& differences) {
    for (double d : differences) add(d);
  }
  uint64_t count() const { return count_; }
  bool finite() const { return !nan_ && !infinite_; }
  const Fixed& fixed() const { return fixed_; }

  uint64_t rounded(Reduction reduction, DType out) const {
    const bool mean = reduction == Reduction::kMean;
    if (nan_ || (mean && count_ == 0)) return oracle::encode(out, std::nan(""));
    if (infinite_) return oracle::encode(out, std::numeric_limits<double>::infinity());
    return oracle::encode(out, round_quotient(fixed_, mean ? count_ : 1, oracle::format_of(out)));
  }

 private:
  Fixed fixed_;
  uint64_t count_ = 0;
  bool nan_ = false, infinite_ = false;
};

inline uint64_t loss(const oracle::ConstTensor& x, const oracle::ConstTensor& y, Reduction reduction,
                     DType out) {
  Sum sum;
  sum.add(oracle::differences(x, y));
  return sum.rounded(reduction, out);
}

}  // namespace exact
