// Exact sums over some axes of one chunk of an array, which merge with those of other chunks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mseloss/mseloss.h"
#include "mseloss/partial_sum.h"

namespace mseloss::python {

// A fixed-point number per slice, like those of PartialSum, of which only the limbs that any slice needs are
// stored: limbs [first, first + size). Above them each number is sign-extended, below them it is zero.
class LimbWindow {
 public:
  LimbWindow() = default;
  explicit LimbWindow(int64_t slices) : slices_(slices) {}

  // Sets the limbs from `from` on of one slice, which are zero so far.
  void set(int64_t slice, int from, std::span<const uint64_t> limbs);
  void add(const LimbWindow& other);
  // Drops limbs that are zero or the sign in all slices.
  void shrink();
  // Copies a slice's number to all kLimbs limbs.
  void copy(int64_t slice, uint64_t* limbs) const;

  void write(std::string* bytes) const;
  bool read(std::string_view* bytes);  // false if they are not such numbers of slices_ slices

 private:
  void cover(int first, int last);
  uint64_t limb(int64_t slice, int index) const;

  int64_t slices_ = 0;
  int first_ = 0, size_ = 0;
  std::vector<uint64_t> limbs_;  // size_ per slice
};

// sum(w * d^2) and the divisor of the mean for each slice. A slice has the elements that differ only in their
// index along the reduced dimensions.
class SliceSums {
 public:
  SliceSums() = default;
  // `shape` is the broadcast shape of the operands, whose dtypes the caller has checked; bit i of `reduced`
  // tells whether dimension i is reduced; `weight` may be null. Throws std::bad_alloc.
  SliceSums(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
            std::span<const int64_t> shape, unsigned reduced);

  // Adds the sums of another chunk with the same kept dimensions. Returns false if these differ, or if only
  // one of both has weights.
  bool merge(const SliceSums& other);
  // Writes the correctly rounded loss of each slice, in C order.
  void finish(Reduction reduction, DType dtype, void* out) const;

  std::span<const int64_t> kept_shape() const { return kept_; }

  std::string state() const;
  bool set_state(std::string_view bytes);

 private:
  struct Special {
    double squares = 0, weights = 0;  // sums of the terms that are not finite
  };
  template <class T>
  friend class SliceSweep;

  void add_special(int64_t slice, const Special& terms);

  bool weighted_ = false;         // each element has a weight, other than bool
  std::vector<int64_t> kept_;     // extents of the kept dimensions
  int64_t slices_ = 1;            // their product
  uint64_t count_ = 0;            // elements of each slice, masked ones included
  std::vector<uint64_t> masked_;  // how many of them are masked; empty: none
  std::vector<Special> special_;  // empty: all zero
  LimbWindow squares_, weights_;
};

}  // namespace mseloss::python
