// Where the segments of a copy begin. The offsets of up to 256 segments are listed once; the remaining
// dimensions repeat the list at other positions.
#pragma once

#include <algorithm>

#include "cpu/kernels/kernels.h"
#include "plan/plan.h"

namespace mseloss::cpu {

// A dimension of a copy, with its stride in elements on either side.
struct PackDimension {
  int64_t extent;
  ptrdiff_t from, to;
};

// Calls f(from, to), in elements, for every index of `count` dimensions, the first of which is the innermost.
template <class F>
void for_each_index(const PackDimension* dims, int count, F f) {
  int64_t index[kMaxRank] = {};
  ptrdiff_t from = 0, to = 0;
  for (;;) {
    f(from, to);
    int d = 0;
    for (; d < count; ++d) {
      from += dims[d].from;
      to += dims[d].to;
      if (++index[d] < dims[d].extent) break;
      from -= dims[d].from * dims[d].extent;
      to -= dims[d].to * dims[d].extent;
      index[d] = 0;
    }
    if (d == count) return;
  }
}

class SegmentList {
 public:
  // One segment at every index of `count` dimensions, the innermost first; elements of `size` bytes.
  void build(const PackDimension* dims, int count, int size);

  // Calls f(segments, count, from, to) for each repetition of the list; from and to, in bytes, are added to
  // the segments' offsets.
  template <class F>
  void for_each_list(F f) const {
    for_each_index(outer_, outer_count_, [&](ptrdiff_t from, ptrdiff_t to) {
      for (int64_t k = 0; k < split_.extent; k += chunk_) {
        f(segments_, static_cast<size_t>(std::min(chunk_, split_.extent - k) * inner_),
          (from + k * split_.from) * size_, (to + k * split_.to) * size_);
      }
    });
  }

  // Calls f(from, to) for each segment, in bytes.
  template <class F>
  void for_each(F f) const {
    for_each_list([&](const Segment* segments, size_t count, ptrdiff_t from, ptrdiff_t to) {
      for (size_t i = 0; i < count; ++i) f(from + segments[i].from, to + segments[i].to);
    });
  }

 private:
  static constexpr int kMaxSegments = 256;  // 4 KiB

  int size_;
  // The list holds the segments of all inner dimensions (inner_ segments) for chunk_ indices of split_. It
  // repeats along the rest of split_ and along the outer dimensions.
  PackDimension split_;
  int64_t chunk_;
  int64_t inner_;
  PackDimension outer_[kMaxRank];
  int outer_count_;
  Segment segments_[kMaxSegments];
};

}  // namespace mseloss::cpu
