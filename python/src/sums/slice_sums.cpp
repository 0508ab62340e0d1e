#include "sums/slice_sums.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <type_traits>

#include "numerics/float_environment.h"
#include "numerics/formats.h"
#include "numerics/sum_access.h"

namespace mseloss::python {
namespace {

constexpr int kLimbs = PartialSum::kLimbs, kDigits = 2 * kLimbs;
constexpr int kTile = 256;  // elements of a row; if its dimension is kept, also slices summed at once

// A finite number as significand * 2^exponent.
struct Decomposed {
  uint64_t significand;
  int exponent;
};
Decomposed decompose(double value) {
  const uint64_t bits = std::bit_cast<uint64_t>(value), fraction = bits & ((uint64_t{1} << 52) - 1);
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
  return exponent == 0 ? Decomposed{fraction, -1074}
                       : Decomposed{fraction | uint64_t{1} << 52, exponent - 1075};
}

// One fixed-point number for each slice of a tile, in digits of 32 bits. A digit is an int64, so carries wait
// until 2^30 terms have been added.
class TileSums {
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

struct Operand {
  const char* data;
  DType dtype;
  int64_t stride[kMaxRank];  // in bytes

  Operand(const ConstTensor& tensor, int rank)
      : data(static_cast<const char*>(tensor.data)), dtype(tensor.dtype) {
    const int first = rank - static_cast<int>(tensor.shape.size());
    for (int d = 0; d < rank; ++d) {
      const bool own = d >= first && tensor.shape[static_cast<size_t>(d - first)] != 1;
      stride[d] = own ? tensor.strides[static_cast<size_t>(d - first)] * size_of(dtype) : 0;
    }
  }

  template <class T>
  void load_row(int64_t offset, int dimension, int count, T* row) const {
    const char* from = data + offset;
    const int64_t step = stride[dimension];
    if (dtype == DType::kFloat32 && step == sizeof(float)) {
      for (int i = 0; i < count; ++i) row[i] = static_cast<T>(read_unaligned<float>(from + 4 * i));
    } else if (dtype == DType::kFloat64 && step == sizeof(double)) {
      for (int i = 0; i < count; ++i) row[i] = static_cast<T>(read_unaligned<double>(from + 8 * i));
    } else {
      for (int i = 0; i < count; ++i) row[i] = static_cast<T>(load(dtype, from + i * step));
    }
  }
};

}  // namespace

// One sweep over a chunk, in tiles of slices. T is the compute dtype.
template <class T>
class SliceSweep {
 public:
  SliceSweep(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
             std::span<const int64_t> shape, unsigned reduced, SliceSums* sums)
      : rank_(static_cast<int>(shape.size())),
        shape_(shape),
        reduced_(reduced),
        x_(input, rank_),
        y_(target, rank_),
        w_(weight == nullptr ? input : *weight, rank_),
        has_weight_(weight != nullptr),
        masked_(has_weight_ && weight->dtype == DType::kBool),
        sums_(*sums) {
    inner_ = innermost();
    int64_t step = 1;
    for (int d = rank_; d-- > 0;) {
      slice_step_[d] = is_reduced(d) ? 0 : step;
      if (!is_reduced(d)) step *= shape_[static_cast<size_t>(d)];
    }
  }

  void run() {
    for (const int64_t extent : shape_) {
      if (extent == 0) return;
    }
    if (rank_ == 0 || is_reduced(inner_)) {
      each(false, Place{}, 0, [&](const Place& slice) { tile(slice, 1); });
    } else {
      each(false, Place{}, 0, [&](Place slice) {
        const int64_t extent = shape_[static_cast<size_t>(inner_)];
        for (int64_t i = 0; i < extent; i += kTile) {
          tile(slice, static_cast<int>(std::min<int64_t>(kTile, extent - i)));
          slice = moved(slice, inner_, kTile);
        }
      });
    }
  }

 private:
  // Offsets of an element in the operands, in bytes, and the index of its slice.
  struct Place {
    int64_t x = 0, y = 0, w = 0, slice = 0;
  };

  bool is_reduced(int d) const { return reduced_ >> d & 1; }

  Place moved(Place from, int d, int64_t count) const {
    from.x += count * x_.stride[d];
    from.y += count * y_.stride[d];
    from.w += count * w_.stride[d];
    from.slice += count * slice_step_[d];
    return from;
  }

  // The dimension along which the operands are closest in memory.
  int innermost() const {
    int found = rank_ == 0 ? 0 : rank_ - 1;
    int64_t smallest = INT64_MAX;
    for (int d = rank_; d-- > 0;) {
      if (shape_[static_cast<size_t>(d)] == 1) continue;
      const int64_t distance = std::abs(x_.stride[d]) + std::abs(y_.stride[d]);
      if (distance != 0 && distance < smallest) {
        smallest = distance;
        found = d;
      }
    }
    return found;
  }

  // Calls visit(place) for each index of the dimensions other than the innermost one that are, or are not,
  // reduced.
  template <class F>
  void each(bool reduced, Place place, int d, F visit) {
    while (d < rank_ && (d == inner_ || is_reduced(d) != reduced)) ++d;
    if (d >= rank_) return visit(place);
    for (int64_t i = 0; i < shape_[static_cast<size_t>(d)]; ++i) {
      each(reduced, place, d + 1, visit);
      place = moved(place, d, 1);
    }
  }

  // Sums `slices` slices: several along the innermost dimension if that is kept.
  void tile(const Place& begin, int slices) {
    const bool along = rank_ > 0 && is_reduced(inner_);  // a row is a part of one slice
    const int64_t length = rank_ == 0 ? 1 : along ? shape_[static_cast<size_t>(inner_)] : slices;
    int64_t terms = 0;
    each(true, begin, 0, [&](Place place) {
      for (int64_t i = 0; i < length; i += kTile) {
        const int count = static_cast<int>(std::min<int64_t>(kTile, length - i));
        row(place, count, begin.slice, along ? 0 : 1);
        if (along) place = moved(place, inner_, kTile);
        terms += count;
        if (terms >= int64_t{1} << 28) {
          squares_.carry(slices);
          weights_.carry(slices);
          terms = 0;
        }
      }
    });
    const int64_t step = along || rank_ == 0 ? 0 : slice_step_[inner_];
    squares_.move_to(&sums_.squares_, slices, begin.slice, step);
    if (has_weight_ && !masked_) weights_.move_to(&sums_.weights_, slices, begin.slice, step);
  }

  // Adds a row: element i to the tile's slice i * step.
  void row(const Place& place, int count, int64_t slice, int step) {
    T x[kTile], y[kTile], w[kTile];
    x_.load_row(place.x, inner_, count, x);
    y_.load_row(place.y, inner_, count, y);
    if (has_weight_) w_.load_row(place.w, inner_, count, w);
    for (int i = 0; i < count; ++i) x[i] -= y[i];
    const int64_t slice_step = rank_ == 0 ? 0 : slice_step_[inner_];
    if constexpr (std::is_same_v<T, float>) {
      if (!has_weight_ && all_finite(x, count)) {
        double squares[kTile];
        for (int i = 0; i < count; ++i) squares[i] = static_cast<double>(x[i]) * static_cast<double>(x[i]);
        squares_.add_row(squares, count, step);
        return;
      }
    }
    for (int i = 0; i < count; ++i) {
      const int64_t index = slice + i * (step == 0 ? 0 : slice_step);
      if (masked_ && w[i] == 0) {
        ++sums_.masked_[static_cast<size_t>(index)];
        continue;
      }
      const bool has_factor = has_weight_ && !masked_;
      const bool finite_factor = !has_factor || std::isfinite(w[i]);
      if (!std::isfinite(x[i]) || !finite_factor) {
        const double magnitude = std::fabs(static_cast<double>(x[i])), factor = static_cast<double>(w[i]);
        sums_.add_special(index, {has_factor ? factor * magnitude : magnitude, finite_factor ? 0 : factor});
        if (has_factor && finite_factor) add_weight(i * step, factor);
        continue;
      }
      if (!has_factor) {
        add_square(i * step, x[i]);
      } else {
        add_product(i * step, static_cast<double>(w[i]), x[i]);
        add_weight(i * step, static_cast<double>(w[i]));
      }
    }
  }

  static bool all_finite(const T* values, int count) {
    T zero[8] = {};  // several, so that one addition need not wait for another
    for (int i = 0; i < count; ++i) zero[i % 8] += values[i] * 0;
    return std::all_of(zero, zero + 8, [](T sum) { return sum == 0; });
  }

  void add_square(int slice, float d) {
    const Decomposed square = decompose(static_cast<double>(d) * static_cast<double>(d));  // exact
    squares_.add(slice, square.significand, square.exponent, false);
  }
  void add_square(int slice, double d) {
    const Decomposed root = decompose(d);
    squares_.add(slice, static_cast<unsigned __int128>(root.significand) * root.significand,
                 2 * root.exponent, false);
  }
  void add_product(int slice, double w, float d) {
    const Decomposed square = decompose(static_cast<double>(d) * static_cast<double>(d)),
                     factor = decompose(w);
    squares_.add(slice, static_cast<unsigned __int128>(square.significand) * factor.significand,
                 square.exponent + factor.exponent, w < 0);
  }
  void add_product(int slice, double w, double d) {
    const Decomposed root = decompose(d), factor = decompose(w);
    const unsigned __int128 square = static_cast<unsigned __int128>(root.significand) * root.significand;
    const int exponent = 2 * root.exponent + factor.exponent;
    for (int half = 0; half < 2; ++half) {
      const auto part = static_cast<uint64_t>(square >> 64 * half);
      squares_.add(slice, static_cast<unsigned __int128>(part) * factor.significand, exponent + 64 * half,
                   w < 0);
    }
  }
  void add_weight(int slice, double w) {
    const Decomposed factor = decompose(w);
    weights_.add(slice, factor.significand, factor.exponent, w < 0);
  }

  const int rank_;
  const std::span<const int64_t> shape_;
  const unsigned reduced_;
  const Operand x_, y_, w_;
  const bool has_weight_, masked_;
  SliceSums& sums_;
  int inner_ = 0;
  int64_t slice_step_[kMaxRank] = {};
  TileSums squares_{kTile}, weights_{kTile};
};

SliceSums::SliceSums(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
                     std::span<const int64_t> shape, unsigned reduced)
    : weighted_(weight != nullptr && weight->dtype != DType::kBool) {
  count_ = 1;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (reduced >> d & 1) {
      count_ *= static_cast<uint64_t>(shape[d]);
    } else {
      kept_.push_back(shape[d]);
      slices_ *= shape[d];
    }
  }
  if (weight != nullptr && !weighted_) masked_.resize(static_cast<size_t>(slices_));
  squares_ = LimbWindow(slices_);
  weights_ = LimbWindow(slices_);
  const FloatEnvironment environment;
  if (input.dtype == DType::kFloat64 || target.dtype == DType::kFloat64) {
    SliceSweep<double>(input, target, weight, shape, reduced, this).run();
  } else {
    SliceSweep<float>(input, target, weight, shape, reduced, this).run();
  }
  squares_.shrink();
  weights_.shrink();
}

void SliceSums::add_special(int64_t slice, const Special& terms) {
  if (terms.squares == 0 && terms.weights == 0) return;
  if (special_.empty()) special_.resize(static_cast<size_t>(slices_));
  special_[static_cast<size_t>(slice)].squares += terms.squares;
  special_[static_cast<size_t>(slice)].weights += terms.weights;
}

bool SliceSums::merge(const SliceSums& other) {
  if (kept_ != other.kept_ || weighted_ != other.weighted_) return false;
  count_ += other.count_;
  if (!other.masked_.empty()) {
    masked_.resize(static_cast<size_t>(slices_));
    for (size_t s = 0; s < masked_.size(); ++s) masked_[s] += other.masked_[s];
  }
  for (size_t s = 0; s < other.special_.size(); ++s) add_special(static_cast<int64_t>(s), other.special_[s]);
  squares_.add(other.squares_);
  weights_.add(other.weights_);
  return true;
}

void SliceSums::finish(Reduction reduction, DType dtype, void* out) const {
  uint64_t limbs[2 * kLimbs] = {};
  for (size_t s = 0; s < static_cast<size_t>(slices_); ++s) {
    squares_.copy(static_cast<int64_t>(s), limbs);
    if (weighted_) weights_.copy(static_cast<int64_t>(s), limbs + kLimbs);
    SumState state;
    (weighted_ ? state.weighted : state.count) = count_ - (masked_.empty() ? 0 : masked_[s]);
    if (!special_.empty()) {
      state.squares.special = special_[s].squares;
      state.weights.special = special_[s].weights;
    }
    SumAccess::finish(state, limbs, reduction, dtype,
                      static_cast<char*>(out) + s * static_cast<size_t>(size_of(dtype)));
  }
}

namespace {

constexpr uint64_t kTag = 0x4d53'4553'4c49'0001;  // "MSESLI", 1; reads differently in another byte order

template <class V>
void append(std::string* bytes, const V* values, size_t count) {
  bytes->append(reinterpret_cast<const char*>(values), count * sizeof(V));
}
template <class V>
bool take(std::string_view* bytes, V* values, size_t count) {
  if (bytes->size() / sizeof(V) < count) return false;
  if (count != 0) std::memcpy(values, bytes->data(), count * sizeof(V));
  bytes->remove_prefix(count * sizeof(V));
  return true;
}

}  // namespace

std::string SliceSums::state() const {
  std::string bytes;
  const uint64_t header[] = {kTag, weighted_, kept_.size(), count_, masked_.size(), special_.size()};
  append(&bytes, header, std::size(header));
  append(&bytes, kept_.data(), kept_.size());
  append(&bytes, masked_.data(), masked_.size());
  append(&bytes, special_.data(), special_.size());
  squares_.write(&bytes);
  weights_.write(&bytes);
  return bytes;
}

bool SliceSums::set_state(std::string_view bytes) {
  uint64_t header[6];
  if (!take(&bytes, header, std::size(header)) || header[0] != kTag || header[1] > 1 ||
      header[2] > kMaxRank) {
    return false;
  }
  weighted_ = header[1] != 0;
  count_ = header[3];
  kept_.resize(header[2]);
  if (!take(&bytes, kept_.data(), kept_.size())) return false;
  slices_ = 1;
  for (const int64_t extent : kept_) {
    if (extent < 0 || __builtin_mul_overflow(slices_, extent, &slices_)) return false;
  }
  const auto slices = static_cast<uint64_t>(slices_);
  const auto known = [&](uint64_t count) { return count == 0 || (count == slices && count <= bytes.size()); };
  if (!known(header[4]) || !known(header[5])) return false;
  masked_.resize(header[4]);
  special_.resize(header[5]);
  squares_ = LimbWindow(slices_);
  weights_ = LimbWindow(slices_);
  return take(&bytes, masked_.data(), masked_.size()) && take(&bytes, special_.data(), special_.size()) &&
         squares_.read(&bytes) && weights_.read(&bytes) && bytes.empty();
}

}  // namespace mseloss::python
