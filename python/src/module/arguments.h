// What the functions of mseloss._core share: parsing of arguments that are not arrays, the shape of a result,
// and a Status as a Python exception.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <span>

#include "arrays/errors.h"
#include "arrays/result_array.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

// Raises TypeError, MemoryError, RuntimeError or ValueError with the message of a Status that is not ok.
[[noreturn]] void raise_status(const Status& status);
inline void check(const Status& status) {
  if (!status.ok()) [[unlikely]]
    raise_status(status);
}

// "none", "mean" or "sum"; raises ValueError.
Reduction parse_reduction(nanobind::handle name);

// Accepts a name, a NumPy, PyTorch or JAX dtype, a scalar type such as numpy.float32, and whatever
// numpy.dtype accepts. Raises TypeError.
DType parse_dtype(nanobind::handle given);

// The dimensions that a loss sums over, and the shapes that follow from them.
class Axes {
 public:
  // `axis` is None (all dimensions), an int or a tuple or list of ints; raises ValueError and TypeError.
  Axes(nanobind::handle axis, bool keepdims, std::span<const int64_t> shape);

  // For the core: the broadcast shape with extents of 1 in the reduced dimensions; rank 0 for all of them.
  std::span<const int64_t> core_shape() const { return {core_, static_cast<size_t>(core_rank_)}; }
  // For the caller: without these dimensions, or with keepdims of extent 1.
  std::span<const int64_t> shape() const { return {shape_, static_cast<size_t>(rank_)}; }
  // A view of shape(), or one that broadcasts to it, as a view of core_shape(). `strides` has kMaxRank
  // elements and, like `extents`, outlives the view.
  template <class View>
  View expand(const View& view, int64_t* extents, int64_t* strides) const {
    const int rank = static_cast<int>(view.shape.size());
    if (core_rank_ == 0 || rank > rank_) return view;  // the core reports an error
    int from = rank;
    for (int i = core_rank_; i-- > 0;) {
      const bool taken = from > 0 && (keepdims_ || !(reduced_ >> i & 1));
      if (taken) --from;
      extents[i] = taken ? view.shape[from] : 1;
      strides[i] = taken ? view.strides[from] : 0;
    }
    const auto count = static_cast<size_t>(core_rank_);
    return View(view.data, view.dtype, {extents, count}, {strides, count});
  }

 private:
  bool keepdims_;
  unsigned reduced_ = 0;
  int core_rank_ = 0, rank_ = 0;
  int64_t core_[kMaxRank], shape_[kMaxRank];
};

// The shape that operands broadcast to, for allocating a result before the core checks the call. If the
// shapes do not broadcast, it has rank 0 and the core rejects the call with its own message.
class BroadcastShape {
 public:
  template <class... Arrays>
  explicit BroadcastShape(const Arrays&... arrays) {
    (add(arrays.shape()), ...);
    if (!valid_) rank_ = 0;
  }
  std::span<const int64_t> extents() const { return {extents_, static_cast<size_t>(rank_)}; }
  int64_t count() const { return element_count(extents()); }

 private:
  // Inline: a call on a few elements takes about half a microsecond.
  void add(std::span<const int64_t> shape) {
    const int added = static_cast<int>(shape.size());
    if (!valid_ || added > kMaxRank) {
      valid_ = false;
      return;
    }
    if (added > rank_) {  // align the extents so far to the right
      for (int i = rank_; i-- > 0;) extents_[i + added - rank_] = extents_[i];
      for (int i = 0; i < added - rank_; ++i) extents_[i] = 1;
      rank_ = added;
    }
    for (int i = 0; i < added; ++i) {
      int64_t& own = extents_[rank_ - added + i];
      if (own == 1) {
        own = shape[i];
      } else if (shape[i] != own && shape[i] != 1) {
        valid_ = false;
      }
    }
  }

  int rank_ = 0;
  bool valid_ = true;
  int64_t extents_[kMaxRank];
};

}  // namespace mseloss::python
