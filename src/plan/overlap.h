// Which views share memory, decided exactly.
#pragma once

#include <cstdint>

namespace mseloss {

// Elements at first + sum(index[i] * stride[i]), all in bytes, 0 <= index[i] < extent[i], extents >= 1.
struct ByteView {
  intptr_t first;
  int width;
  int rank;
  int64_t extent[8];
  int64_t stride[8];
};

// True if some byte belongs to both, or if the search for one exceeded its budget (no layout seen in practice
// does).
bool may_share_memory(const ByteView& a, const ByteView& b);

// True if two different indices lead to a common byte, or the search exceeded its budget.
bool may_overlap_itself(const ByteView& view);

}  // namespace mseloss
