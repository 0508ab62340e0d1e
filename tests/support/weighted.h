// Exact weighted sums and means, slice by slice: the reference for losses and gradients with weights or over
// some axes. Integers of any length, divided bit by bit and rounded once. Shares no code with src/.
#pragma once

#include <map>

#include "tests/support/cases.h"

namespace weighted {

using namespace cases;

// A non-negative integer, least significant word first, in memory of its own: the oracle of a fuzzing harness
// must not spend its time in malloc(). Sums of products of three float64 and their quotients need 6,500 bits.
class Integer {
 public:
  Integer() = default;
  explicit Integer(uint64_t value) { push(value), trim(); }
  Integer(const Integer& other) { *this = other; }
  Integer& operator=(const Integer& other) {
    size_ = other.size_;
    std::copy_n(other.words_, size_, words_);
    return *this;
  }

  int bits() const { return size_ == 0 ? 0 : 64 * size_ - std::countl_zero(words_[size_ - 1]); }
  bool zero() const { return size_ == 0; }
  Integer shifted(int bits) const {  // left
    if (zero()) return {};
    Integer result;
    while (result.size_ < bits / 64) result.push(0);
    uint64_t carry = 0;
    for (int i = 0; i < size_; ++i) {
      result.push(bits % 64 == 0 ? words_[i] : words_[i] << bits % 64 | carry);
      carry = bits % 64 == 0 ? 0 : words_[i] >> (64 - bits % 64);
    }
    result.push(carry);
    result.trim();
    return result;
  }
  Integer times(uint64_t factor) const {
    Integer result;
    unsigned __int128 carry = 0;
    for (int i = 0; i < size_; ++i) {
      carry += static_cast<unsigned __int128>(words_[i]) * factor;
      result.push(static_cast<uint64_t>(carry));
      carry >>= 64;
    }
    result.push(static_cast<uint64_t>(carry));
    result.trim();
    return result;
  }
  Integer& operator+=(const Integer& other) {
    while (size_ < other.size_) push(0);
    push(0);
    unsigned __int128 carry = 0;
    for (int i = 0; i < size_; ++i) {
      carry += words_[i];
      if (i < other.size_) carry += other.words_[i];
      words_[i] = static_cast<uint64_t>(carry);
      carry >>= 64;
    }
    trim();
    return *this;
  }
  Integer& operator-=(const Integer& other) {  // other <= *this
    uint64_t borrow = 0;
    for (int i = 0; i < size_; ++i) {
      const unsigned __int128 less =
          static_cast<unsigned __int128>(i < other.size_ ? other.words_[i] : 0) + borrow;
      borrow = words_[i] < less;
      words_[i] -= static_cast<uint64_t>(less);
    }
    trim();
    return *this;
  }
  friend bool operator<=(const Integer& a, const Integer& b) {
    if (a.size_ != b.size_) return a.size_ < b.size_;
    for (int i = a.size_; i-- > 0;)
      if (a.words_[i] != b.words_[i]) return a.words_[i] < b.words_[i];
    return true;
  }

 private:
  static constexpr int kWords = 256;
  void push(uint64_t word) {
    if (size_ == kWords) std::abort();
    words_[size_++] = word;
  }
  void trim() {
    while (size_ != 0 && words_[size_ - 1] == 0) --size_;
  }
  int size_ = 0;
  uint64_t words_[kWords];
};

constexpr int kUnitBits = 3222;

// A sum of products of doubles, in units of 2^-kUnitBits, the smallest product of three.
class Sum {
 public:
  void add(double a, double b = 1, double c = 1) {
    if (a == 0 || b == 0 || c == 0) return;
    Integer product(1);
    int exponent = kUnitBits;
    for (const double factor : {a, b, c}) {
      int e;
      std::frexp(factor, &e);
      e = std::max(e - 53, -1074);
      product = product.times(static_cast<uint64_t>(std::ldexp(std::fabs(factor), -e)));
      exponent += e;
    }
    (std::signbit(a) ^ std::signbit(b) ^ std::signbit(c) ? negative_ : positive_) +=
        product.shifted(exponent);
  }
  int sign() const { return positive_ <= negative_ ? (negative_ <= positive_ ? 0 : -1) : 1; }
  Integer magnitude() const {
    Integer larger = sign() < 0 ? negative_ : positive_;
    larger -= sign() < 0 ? positive_ : negative_;
    return larger;
  }

 private:
  Integer positive_, negative_;
};

// a / b, rounded once to nearest even in `format`.
inline double round_quotient(const Integer& a, const Integer& b, const oracle::Format& format) {
  if (a.zero()) return 0;
  int top = a.bits() - b.bits();  // 2^top <= a / b < 2^(top + 1), after the correction
  if (!((top >= 0 ? b.shifted(top) : b) <= (top >= 0 ? a : a.shifted(-top)))) --top;
  const int last = std::max(top - format.precision + 1, format.lowest_exponent);
  Integer rest = last < 0 ? a.shifted(-last) : a;
  const Integer unit = last > 0 ? b.shifted(last) : b;
  uint64_t kept = 0;
  for (int bit = std::max(rest.bits() - unit.bits(), 0); bit >= 0; --bit) {
    const Integer part = unit.shifted(bit);
    kept <<= 1;
    if (!(part <= rest)) continue;
    rest -= part;
    kept |= 1;
  }
  const Integer twice = rest.shifted(1);
  if (!(twice <= unit) || (unit <= twice && (kept & 1))) ++kept;
  if (static_cast<int>(std::bit_width(kept)) + last > format.max_exponent + 1)
    return std::numeric_limits<double>::infinity();
  return std::ldexp(static_cast<double>(kept), last);
}

// The terms of one slice.
struct Slice {
  Sum squares, weights;
  double special = 0, weight_special = 0;

  void add(double d, double w) {
    if (std::isfinite(d) && std::isfinite(w))
      squares.add(w, d, d);
    else
      special += w * std::fabs(d);
    if (std::isfinite(w))
      weights.add(w);
    else
      weight_special += w;
  }
  double rounded(Reduction reduction, const oracle::Format& format) const {
    const bool mean = reduction == Reduction::kMean;
    const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
    if (std::isnan(special) || (mean && weight_special != 0)) return nan;
    if (special != 0) return mean && weights.sign() < 0 ? -special : special;
    const int sign = squares.sign(), divisor = mean ? weights.sign() : 1;
    if (divisor == 0) return sign == 0 ? nan : sign * infinity;
    if (sign == 0) return 0;
    const double value = mean ? round_quotient(squares.magnitude(), weights.magnitude(), format)
                              : round_quotient(squares.magnitude(), Integer(1).shifted(kUnitBits), format);
    return sign * divisor < 0 ? -value : value;
  }
  // 2 / sum(w) in the compute dtype.
  double scale(Reduction reduction, DType compute) const {
    if (reduction != Reduction::kMean) return 2;
    if (weight_special != 0)
      return std::isnan(weight_special) ? weight_special : std::copysign(0.0, weight_special);
    if (weights.sign() == 0) return std::numeric_limits<double>::infinity();
    return weights.sign() *
           round_quotient(Integer(2).shifted(kUnitBits), weights.magnitude(), oracle::format_of(compute));
  }
};

inline double weight_at(const ConstTensor* w, oracle::Extents all, int64_t i) {
  if (w == nullptr) return 1;
  if (w->dtype == DType::kBool) return oracle::bits_at(*w, all, i) != 0;
  return oracle::value_at(*w, all, i);
}

struct Reference {
  oracle::Bits loss, grad;
};

// The loss in the shape of `loss` (of slices, 0-dimensional, or for kNone of all elements) and the gradient
// of the broadcast shape. `g` null: no gradient.
inline Reference reference(const ConstTensor& x, const ConstTensor& y, const ConstTensor* w,
                           const ConstTensor* g, Reduction reduction, oracle::Extents loss_shape,
                           DType loss_dtype, DType grad_dtype) {
  Shape all = oracle::broadcast({x.shape, y.shape});
  if (w != nullptr) all = oracle::broadcast({all, w->shape});
  if (reduction == Reduction::kNone && g != nullptr) all = oracle::broadcast({all, g->shape});
  const DType promoted = oracle::promoted_dtype(x.dtype, y.dtype);
  const bool wide = promoted == DType::kFloat64, masked = w != nullptr && w->dtype == DType::kBool;
  const auto multiply = [&](double a, double b) {
    return wide ? a * b : static_cast<double>(static_cast<float>(a) * static_cast<float>(b));
  };
  const auto difference = [&](int64_t i) {
    const double xi = oracle::value_at(x, all, i), yi = oracle::value_at(y, all, i);
    return wide ? oracle::difference<double>(xi, yi) : oracle::difference<float>(xi, yi);
  };
  const int64_t count = oracle::count_of(all);
  Reference result;
  std::vector<Slice> slices;
  const auto slice_of = [&](int64_t i) {
    return static_cast<size_t>(oracle::offset_of(loss_shape, {}, all, i));
  };
  if (reduction == Reduction::kNone) {
    for (int64_t i = 0; i < count; ++i) {
      const double d = difference(i), wi = weight_at(w, all, i);
      const double value = masked && wi == 0 ? 0
                           : w == nullptr    ? multiply(d, d)
                                             : multiply(multiply(d, d), wi);
      result.loss.push_back(oracle::encode(loss_dtype, value));
    }
  } else {
    slices.resize(static_cast<size_t>(oracle::count_of(loss_shape)));
    for (int64_t i = 0; i < count; ++i) {
      const double wi = weight_at(w, all, i);
      if (!masked || wi != 0) slices[slice_of(i)].add(difference(i), wi);
    }
    for (const Slice& slice : slices)
      result.loss.push_back(
          oracle::encode(loss_dtype, slice.rounded(reduction, oracle::format_of(loss_dtype))));
  }
  if (g == nullptr) return result;
  std::vector<double> scales;
  for (const Slice& slice : slices)
    scales.push_back(slice.scale(reduction, wide ? DType::kFloat64 : DType::kFloat32));
  for (int64_t i = 0; i < count; ++i) {
    const double wi = weight_at(w, all, i), gi = oracle::value_at(*g, all, i);
    const double scale = slices.empty() ? 2 : scales[slice_of(i)];
    const double r = multiply(multiply(difference(i), scale), w == nullptr ? gi : multiply(wi, gi));
    const double rounded = masked && wi == 0 ? 0 : r;
    result.grad.push_back(
        oracle::encode(grad_dtype, oracle::decode(promoted, oracle::encode(promoted, rounded))));
  }
  return result;
}

}  // namespace weighted
