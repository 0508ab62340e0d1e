// Where the pieces of a copy begin: some of them are listed once, the rest are the same list elsewhere.
#pragma once

#include <algorithm>

#include "cpu/kernels.h"
#include "plan/plan.h"

namespace mseloss::cpu {

// A dimension of a copy, with its stride in elements on either side.
struct CopyDimension {
  int64_t extent;
  ptrdiff_t from, to;
};

// Calls f(from, to), in elements, for every index of `count` dimensions, the first of which is the innermost.
template <class F>
void for_each_index(const CopyDimension* dims, int count, F f) {
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

class Pieces {
 public:
  // One at every index of `count` dimensions, in this order.
  void list(const CopyDimension* dims, int count, int size);

  // Calls f(pieces, count, from, to): so many pieces of a list, from there on either side, in bytes.
  template <class F>
  void for_each_list(F f) const {
    for_each_index(outer_, outer_count_, [&](ptrdiff_t from, ptrdiff_t to) {
      for (int64_t k = 0; k < part_.extent; k += chunk_) {
        f(pieces_, static_cast<size_t>(std::min(chunk_, part_.extent - k) * inner_),
          (from + k * part_.from) * size_, (to + k * part_.to) * size_);
      }
    });
  }

  // Calls f(from, to) for each piece, in bytes.
  template <class F>
  void for_each(F f) const {
    for_each_list([&](const Piece* pieces, size_t count, ptrdiff_t from, ptrdiff_t to) {
      for (size_t i = 0; i < count; ++i) f(from + pieces[i].from, to + pieces[i].to);
    });
  }

 private:
  static constexpr int kMost = 256;  // 4 KiB

  int size_;
  int64_t inner_;       // so many pieces at each index
  int64_t chunk_;       // of so many indices at a time
  CopyDimension part_;  // of this dimension are listed,
  CopyDimension outer_[kMaxRank];
  int outer_count_;  // and these dimensions are not
  Piece pieces_[kMost];
};

}  // namespace mseloss::cpu
