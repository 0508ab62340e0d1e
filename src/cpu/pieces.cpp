#include "cpu/pieces.h"

namespace mseloss::cpu {

void Pieces::list(const CopyDimension* dims, int count, int size) {
  size_ = size;
  inner_ = chunk_ = 1;
  part_ = {1, 0, 0};
  pieces_[0] = {0, 0};
  int d = 0;
  for (; d < count && chunk_ == part_.extent; ++d) {
    inner_ *= chunk_;
    part_ = dims[d];
    chunk_ = std::min(part_.extent, kMost / inner_);
    for (int64_t k = 1; k < chunk_; ++k) {
      for (int64_t i = 0; i < inner_; ++i) {
        pieces_[k * inner_ + i] = {pieces_[i].from + k * part_.from * size,
                                   pieces_[i].to + k * part_.to * size};
      }
    }
  }
  outer_count_ = count - d;
  std::copy_n(dims + d, outer_count_, outer_);
}

}  // namespace mseloss::cpu
