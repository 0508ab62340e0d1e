// The sweep over a chunk that computes SliceSums.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <type_traits>

#include "numerics/formats.h"
#include "sums/slice_sums.h"
#include "sums/tile_sums.h"

namespace mseloss::python {

inline constexpr int kTile = 256;  // elements of a row; if its dimension is kept, also slices summed at once

// An operand of the broadcast shape.
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

}  // namespace mseloss::python
