// Exact sums of the slices of one tile, term by term.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "sums/slice_sums.h"

namespace mseloss::python {

// One fixed-point number for each slice of a tile, in digits of 32 bits. A digit is an int64, so carries wait
// until 2^30 terms have been added.
class TileSums {
  static constexpr int kLimbs = PartialSum::kLimbs, kDigits = 2 * kLimbs;

 public:
  explicit TileSums(int slices) : digits_(static_cast<size_t>(slices) * kDigits) {}

  void add(int slice, uint64_t significand, int exponent, bool negative) {
    if (significand == 0) return;
    const int bit = exponent - PartialSum::kLowestBit, digit = bit / 32;
    const unsigned __int128 value = static_cast<unsigned __int128>(significand) << bit % 32;
    low_ = std::min(low_, digit);
    high_ = std::max(high_, digit);
    int64_t* digits = &digits_[static_cast<size_t>(slice) * kDigits + static_cast<size_t>(digit)];
    for (int i = 0; i < 3; ++i) {
      const int64_t part = static_cast<uint32_t>(value >> 32 * i);
      digits[i] += negative ? -part : part;
    }
  }
  void add(int slice, unsigned __int128 significand, int exponent, bool negative) {
    add(slice, static_cast<uint64_t>(significand), exponent, negative);
    add(slice, static_cast<uint64_t>(significand >> 64), exponent + 64, negative);
  }

  // Adds value i to slice i * step. The values are squares of float32: not negative, not subnormal.
  void add_row(const double* values, int count, int step) {
    int64_t lowest = INT64_MAX, highest = 0;
    for (int i = 0; i < count; ++i) {
      const auto bits = std::bit_cast<int64_t>(values[i]);
      lowest = std::min(lowest, bits == 0 ? INT64_MAX : bits);
      highest = std::max(highest, bits);
    }
    if (highest == 0) return;
    const auto digit_of = [](int64_t bits) { return (static_cast<int>(bits >> 52) + kBias) / 32; };
    low_ = std::min(low_, digit_of(lowest));
    high_ = std::max(high_, digit_of(highest));
    for (int i = 0; i < count; ++i) {
      const uint64_t bits = std::bit_cast<uint64_t>(values[i]);
      const int bit = static_cast<int>(bits >> 52) + kBias;
      const uint64_t significand = (bits & (kHidden - 1)) | (bits != 0 ? kHidden : 0);
      const uint64_t first = (significand & 0xffff'ffff) << bit % 32, second = (significand >> 32)
                                                                               << bit % 32;
      int64_t* digits = &digits_[static_cast<size_t>(i * step) * kDigits + static_cast<size_t>(bit / 32)];
      digits[0] += static_cast<uint32_t>(first);
      digits[1] += static_cast<int64_t>((first >> 32) + static_cast<uint32_t>(second));
      digits[2] += static_cast<int64_t>(second >> 32);
    }
  }

  // Reduces the digits to 32 bits, apart from the highest one, which has the sign.
  void carry(int slices) {
    for (int s = 0; s < slices; ++s) {
      int64_t* digits = &digits_[static_cast<size_t>(s) * kDigits];
      for (int i = low_; i < end() - 1; ++i) {
        digits[i + 1] += digits[i] >> 32;
        digits[i] &= 0xffff'ffff;
      }
    }
  }

  // Moves the sums to `window`, slice s to first + s * step.
  void move_to(LimbWindow* window, int slices, int64_t first, int64_t step) {
    if (low_ >= kDigits) return;
    low_ &= ~1;
    carry(slices);
    uint64_t limbs[kLimbs];
    const int count = (end() - low_) / 2;
    for (int s = 0; s < slices; ++s) {
      int64_t* digits = &digits_[static_cast<size_t>(s) * kDigits];
      for (int i = 0; i < count; ++i) {
        const int64_t* pair = digits + low_ + 2 * i;
        limbs[i] = static_cast<uint64_t>(pair[0]) | static_cast<uint64_t>(pair[1]) << 32;
      }
      window->set(first + s * step, low_ / 2, {limbs, static_cast<size_t>(count)});
      std::fill(digits + low_, digits + end(), 0);
    }
    low_ = kDigits;
    high_ = -1;
  }

 private:
  // A term has 3 digits, and the sum of 2^63 of them two more. Even, for whole limbs.
  // From a double's biased exponent to the bit of its last place.
  static constexpr int kBias = -1075 - PartialSum::kLowestBit;
  static constexpr uint64_t kHidden = uint64_t{1} << 52;

  int end() const { return std::min(kDigits, (high_ + 6) & ~1); }

  std::vector<int64_t> digits_;
  int low_ = kDigits, high_ = -1;
};

}  // namespace mseloss::python
