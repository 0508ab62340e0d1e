// Operand memory: huge pages where the system provides them, touched before any timing.
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

// Fills with random multiples of 2^-grid_bits(dtype) in (-2, 2), so that sums of squares fit in 128-bit
// integers (check.cpp). The period is prime, so that an index off by a power of two reads a different value.
void fill(const Arena& arena, mseloss::DType dtype, unsigned seed);
// Fills with multiples of 2^-kWeightBits in (0, 2); kBool: random zeros and ones.
void fill_weights(const Arena& arena, mseloss::DType dtype, unsigned seed);
constexpr int kWeightBits = 4;
int grid_bits(mseloss::DType dtype);

}  // namespace bench
