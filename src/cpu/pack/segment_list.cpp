#include "cpu/pack/segment_list.h"

namespace mseloss::cpu {

void SegmentList::build(const PackDimension* dims, int count, int size) {
  size_ = size;
  inner_ = chunk_ = 1;
  split_ = {1, 0, 0};
  segments_[0] = {0, 0};
  int d = 0;
  for (; d < count && chunk_ == split_.extent; ++d) {
    inner_ *= chunk_;
    split_ = dims[d];
    chunk_ = std::min(split_.extent, kMaxSegments / inner_);
    for (int64_t k = 1; k < chunk_; ++k) {
      for (int64_t i = 0; i < inner_; ++i) {
        segments_[k * inner_ + i] = {segments_[i].from + k * split_.from * size,
                                     segments_[i].to + k * split_.to * size};
      }
    }
  }
  outer_count_ = count - d;
  std::copy_n(dims + d, outer_count_, outer_);
}

}  // namespace mseloss::cpu
