// PartialSum::encode() and decode(): a sum as int32 words that any integer sum may add. docs/numerics.md
// describes the format and proves that the sum of the words bounds the error of the merged sum.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "mseloss/partial_sum.h"
#include "numerics/fixed_point.h"
#include "numerics/float_environment.h"
#include "numerics/sum_access.h"

namespace mseloss {
namespace {

constexpr int kDigitBits = 16, kDigitsPerLimb = 64 / kDigitBits, kMaxDigit = (1 << kDigitBits) - 1;
constexpr int kLimbDigits = kDigitsPerLimb * PartialSum::kLimbs;
constexpr int kCountDigits = 4;  // of a 64-bit count

// Levels of the error bound of a fast sum, which is not negative. Level 0: error <= kTiny. Level i > 0: error
// <= bound_of(i) * sum.
constexpr int kLevels = 19;
constexpr double kTiny = 0x1p-960;
double bound_of(int level) { return level <= 0 ? 0 : std::ldexp(1, 4 * level - 100); }

// Positions of the words. Each encoded sum adds 1 to kSums, its kind and the square of that to the next two,
// and at most 1 to every word from kSpecial up to the first digit of the sums.
enum Word : int {
  kSums,
  kKind,
  kKindSquared,
  kCount,
  kWeighted = kCount + kCountDigits,
  kSpecial = kWeighted + kCountDigits,  // NaN, infinity, -infinity: of the squares, then of the weights
  kNegative = kSpecial + 6,             // a sum is negative
  kUnbounded,                           // a fast sum has no bound that a level describes
  kLevel,
  kDigits = kLevel + kLevels,
};

// The digits of the limbs that a layout has: `count` from `first` on, all others are 0 or repeat the sign.
struct Window {
  int first, count;
};

// Each window starts at or below the lowest bit of its terms, and ends above 2^64 times the largest one.
struct WordLayout {
  int kind;  // version and class of dtypes, at most 255, so that the sum of 32767 squares fits
  Window sums[2];
  int highest[2];  // every term is less than 2^highest
};
constexpr WordLayout kNarrow{
    2, {{173, 57}, {192, 22}}, {386, 128}};  // w d^2 from 2^-447 on, w from 2^-149 on
constexpr WordLayout kWide{
    3, {{0, 398}, {134, 136}}, {3074, 1024}};  // w d^2 from 2^-3222 on, w from 2^-1074 on

constexpr int words_of(const WordLayout& layout) {
  return kDigits + layout.sums[0].count + layout.sums[1].count;
}
static_assert(words_of(kNarrow) == PartialSum::digit_count(DType::kFloat32));
static_assert(words_of(kWide) == PartialSum::digit_count(DType::kFloat64));

const WordLayout& layout_of(DType dtype) { return dtype == DType::kFloat64 ? kWide : kNarrow; }

bool is_negative(const uint64_t* limbs) { return limbs[PartialSum::kLimbs - 1] >> 63 != 0; }

void write_count(uint64_t count, int32_t* words) {
  for (int i = 0; i < kCountDigits; ++i)
    words[i] = static_cast<int32_t>(count >> (kDigitBits * i) & kMaxDigit);
}

uint64_t read_count(const int32_t* words) {  // modulo 2^64
  uint64_t count = 0;
  for (int i = 0; i < kCountDigits; ++i) count += static_cast<uint64_t>(words[i]) << (kDigitBits * i);
  return count;
}

// The bits of the limbs without the copies of the sign.
int significant_bits(const uint64_t* limbs) {
  const uint64_t sign = is_negative(limbs) ? ~uint64_t{0} : 0;
  int i = PartialSum::kLimbs - 1;
  while (i >= 0 && limbs[i] == sign) --i;
  return i < 0 ? 0 : 64 * i + static_cast<int>(std::bit_width(limbs[i] ^ sign));
}

// Returns false if the limbs have bits outside the window.
bool write_sum(const uint64_t* limbs, const Window& window, int32_t* words) {
  uint16_t digits[kLimbDigits];
  for (int i = 0; i < PartialSum::kLimbs; ++i) {
    for (int j = 0; j < kDigitsPerLimb; ++j) {
      digits[kDigitsPerLimb * i + j] = static_cast<uint16_t>(limbs[i] >> (kDigitBits * j));
    }
  }
  const int end = window.first + window.count;
  const uint16_t sign = is_negative(limbs) ? kMaxDigit : 0;
  unsigned outside = (digits[end - 1] ^ sign) & (kMaxDigit / 2 + 1);  // the last digit has the sign
  for (int i = 0; i < window.first; ++i) outside |= digits[i];
  for (int i = end; i < kLimbDigits; ++i) outside |= digits[i] ^ sign;
  std::copy(digits + window.first, digits + end, words);
  return outside == 0;
}

// Propagates the carries; the sign is that of the last digit.
void read_sum(const int32_t* words, const Window& window, uint64_t* limbs) {
  int32_t digits[kLimbDigits] = {};
  std::copy_n(words, window.count, digits + window.first);
  unsigned __int128 carry = 0;
  for (int i = 0; i < PartialSum::kLimbs; ++i) {
    const auto digit = [&](int j) { return static_cast<uint64_t>(digits[kDigitsPerLimb * i + j]); };
    const uint64_t low = digit(0) + (digit(1) << kDigitBits), high = digit(2) + (digit(3) << kDigitBits);
    carry += low + (static_cast<unsigned __int128>(high) << (2 * kDigitBits));
    limbs[i] = static_cast<uint64_t>(carry);
    carry >>= 64;
  }
  const int end = kDigitBits * (window.first + window.count), last = end - 1;
  const uint64_t sign = limbs[last / 64] >> (last % 64) & 1 ? ~uint64_t{0} : 0;
  if (end == 64 * PartialSum::kLimbs) return;
  const uint64_t above = ~uint64_t{0} << (end % 64);
  limbs[end / 64] = (limbs[end / 64] & ~above) | (sign & above);
  std::fill(limbs + end / 64 + 1, limbs + PartialSum::kLimbs, sign);
}

void write_special(double special, int32_t* words) {
  words[0] = std::isnan(special);
  words[1] = special == INFINITY;
  words[2] = special == -INFINITY;
}

double read_special(const int32_t* words) {
  if (words[0] != 0 || (words[1] != 0 && words[2] != 0)) return NAN;
  return words[1] != 0 ? INFINITY : words[2] != 0 ? -INFINITY : 0;
}

// The lowest level that holds for the error of a fast sum with this value; -1 without an error, kLevels if
// none holds.
int level_of(double error, const uint64_t* limbs) {
  if (error == 0) return -1;
  if (error <= kTiny) return 0;
  double high, low;
  FixedPoint(const_cast<uint64_t*>(limbs))
      .to_double_double(&high, &low);  // truncated: high is at most the sum
  if (!(error < INFINITY && high > kTiny && high < INFINITY)) return kLevels;
  const double relative = error / high * kSlack;
  int level = 1;
  while (level < kLevels && relative > bound_of(level)) ++level;
  return level;
}

// The sum of the limbs, rounded to two float64, with the error of `tiny` sums of level 0 and others up to
// `level`.
FastSum rounded_sum(const uint64_t* limbs, int level, int tiny) {
  FastSum sum;
  FixedPoint(const_cast<uint64_t*>(limbs)).to_double_double(&sum.high, &sum.low);
  if (!std::isfinite(sum.high)) return {0, 0, INFINITY, 0};
  sum.error = (sum.high * (bound_of(level) + 0x1p-100) + tiny * kTiny) * kSlack;
  return sum;
}

Status check_words(std::span<const int32_t> words) {
  const auto refuse = [](const char* expected) {
    return Status::error(Code::kDigits, "digits: expected %s", expected);
  };
  const int64_t arrays = words[kSums];
  if (arrays < 1 || arrays > PartialSum::kMaxArrays) {
    return Status::error(Code::kDigits, "digits: expected the sum of 1 to %d arrays, got that of %lld",
                         PartialSum::kMaxArrays, static_cast<long long>(arrays));
  }
  const int kind = words.size() == static_cast<size_t>(words_of(kWide)) ? kWide.kind : kNarrow.kind;
  if (words[kKind] != arrays * kind || words[kKindSquared] != arrays * kind * kind) {
    return refuse("a sum of arrays of this version of the format, all of the same class of dtypes");
  }
  const auto exceed = [&](size_t first, size_t end, int64_t limit) {
    int32_t lowest = 0, highest = 0;
    for (size_t i = first; i < end; ++i) {
      lowest = std::min(lowest, words[i]);
      highest = std::max(highest, words[i]);
    }
    return lowest < 0 || highest > limit;
  };
  const int64_t digits = arrays * kMaxDigit;
  if (exceed(kCount, kSpecial, digits) || exceed(kSpecial, kDigits, arrays) ||
      exceed(kDigits, words.size(), digits)) {
    return refuse("a sum of arrays of digits, got a value that no such sum has");
  }
  return {};
}

}  // namespace

Status PartialSum::encode(DType dtype, std::span<int32_t> digits) const noexcept {
  if (dtype > DType::kFloat64) {
    return Status::error(Code::kDType, "dtype: expected float32, float16, bfloat16 or float64, got %s",
                         name_of(dtype));
  }
  const WordLayout& layout = layout_of(dtype);
  if (digits.size() != static_cast<size_t>(words_of(layout))) {
    return Status::error(Code::kShape, "digits: expected %d elements for %s, got %zu", words_of(layout),
                         name_of(dtype), digits.size());
  }
  const FloatEnvironment environment;
  std::array<int32_t, words_of(kWide)> words{};
  words[kSums] = 1;
  words[kKind] = layout.kind;
  words[kKindSquared] = layout.kind * layout.kind;
  write_count(state_.count, &words[kCount]);
  write_count(state_.weighted, &words[kWeighted]);
  int level = -1, at = kDigits;
  for (const int i : {0, 1}) {
    const FastSum& fast = i == 0 ? state_.squares : state_.weights;
    uint64_t limbs[kLimbs];
    std::copy_n(limbs_[i], kLimbs, limbs);
    FixedPoint sum(limbs);
    if (fast.error < INFINITY) {  // else `low` may be infinite too
      sum.add(fast.high);
      sum.add(fast.low);
    }
    if (is_negative(limbs)) words[kNegative] = 1;
    const int own = level_of(fast.error, limbs);
    if (own == 0) words[kLevel] = 1;  // also beside a higher level of the other sum
    level = std::max(level, own);
    write_special(fast.special, &words[kSpecial + 3 * i]);
    // A sum of larger terms would fit alone, but overflow in the sum of many arrays.
    const int most = layout.highest[i] - kLowestBit + static_cast<int>(std::bit_width(count()));
    if (significant_bits(limbs) > most || !write_sum(limbs, layout.sums[i], &words[at])) {
      return Status::error(Code::kDType, "dtype: expected float64 for a sum with float64 inputs, got %s",
                           name_of(dtype));
    }
    at += layout.sums[i].count;
  }
  if (level == kLevels) {
    words[kUnbounded] = 1;
  } else if (level > 0) {
    words[kLevel + level] = 1;
  }
  std::copy_n(words.begin(), digits.size(), digits.begin());
  return {};
}

Status PartialSum::decode(std::span<const int32_t> digits) noexcept {
  if (digits.size() != static_cast<size_t>(words_of(kNarrow)) &&
      digits.size() != static_cast<size_t>(words_of(kWide))) {
    return Status::error(Code::kShape, "digits: expected %d or %d elements, got %zu", words_of(kNarrow),
                         words_of(kWide), digits.size());
  }
  if (Status status = check_words(digits); !status.ok()) return status;
  const FloatEnvironment environment;
  const WordLayout& layout = digits.size() == static_cast<size_t>(words_of(kWide)) ? kWide : kNarrow;
  PartialSum sum;
  SumState& state = sum.state_;
  state.count = read_count(&digits[kCount]);
  state.weighted = read_count(&digits[kWeighted]);
  int level = kLevels - 1;
  while (level >= 0 && digits[kLevel + level] == 0) --level;
  const bool fast = level >= 0 || digits[kUnbounded] != 0;
  // The levels bound the errors relative to the sum only if no part of it is negative.
  const bool bounded = digits[kUnbounded] == 0 && digits[kNegative] == 0;
  const bool weighted = state.weighted != 0;
  const auto weights = digits.last(static_cast<size_t>(layout.sums[1].count));
  const bool valid =
      weighted || std::all_of(weights.begin(), weights.end(), [](int32_t word) { return word == 0; });
  for (const int i : {0, 1}) {
    if (i == 1 && !weighted) break;
    read_sum(i == 0 ? &digits[kDigits] : weights.data(), layout.sums[i], sum.limbs_[i]);
    FastSum& part = i == 0 ? state.squares : state.weights;
    if (fast) {
      part = bounded ? rounded_sum(sum.limbs_[i], level, digits[kLevel]) : FastSum{0, 0, INFINITY, 0};
      std::fill_n(sum.limbs_[i], kLimbs, 0);
    }
    part.special = read_special(&digits[kSpecial + 3 * i]);
  }
  if (fast) state.fast_terms = state.count + state.weighted;
  if (!valid || !SumAccess::is_valid(sum)) {
    return Status::error(Code::kDigits, "digits: expected a sum of squares, got inconsistent values");
  }
  *this = sum;
  return {};
}

}  // namespace mseloss
