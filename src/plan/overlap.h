// Exact decision whether views share memory.
#pragma once

#include <cstdint>

namespace mseloss {

// The elements at first + sum(index[i] * stride[i]), 0 <= index[i] < extent[i], each `width` bytes wide.
// `first` and the strides are in bytes; extents >= 1.
struct ByteView {
  intptr_t first;
  int width;
  int rank;
  int64_t extent[8];
  int64_t stride[8];
};

// True if a byte belongs to both views, or if the search exceeds its budget, which no practical layout does.
bool may_share_memory(const ByteView& a, const ByteView& b);

// True if two different indices share a byte, or if the search exceeds its budget.
bool may_overlap_itself(const ByteView& view);

}  // namespace mseloss
