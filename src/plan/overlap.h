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

// The bytes a view lies within: from low to before high.
struct ByteRange {
  __int128 low, high;
};
inline bool meet(const ByteRange& a, const ByteRange& b) { return a.low < b.high && b.low < a.high; }
ByteRange range_of(const ByteView& view);

// True if some byte belongs to both, or if the search for one exceeded its budget (no layout seen in practice
// does).
bool may_share_memory(const ByteView& a, const ByteView& b);

// True if two different indices lead to a common byte, or the search exceeded its budget.
bool may_overlap_itself(const ByteView& view);

}  // namespace mseloss
