// Memory for operands: huge pages where the system has them, touched before anything is timed.
#pragma once

#include <cstddef>

#include "mseloss/types.h"

namespace bench {

class Arena {
 public:
  explicit Arena(size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  char* data_;
  size_t size_;
};

// Values of a coarse grid in (-2, 2), so that sums of squares fit in 128-bit integers (check.cpp). They
// repeat after a prime number of elements: an index that is off by a power of two reads a different value.
void fill(const Arena& arena, mseloss::DType dtype, unsigned seed);
// Values are multiples of 2^-grid_bits(dtype).
int grid_bits(mseloss::DType dtype);

}  // namespace bench
