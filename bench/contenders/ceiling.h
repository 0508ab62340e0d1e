// What the machine can do: plain loops that move the same bytes in as many streams.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "mseloss/types.h"

namespace bench {

// Loops of one instruction set (ceiling_loops.cpp, compiled once for each).
struct Loops {
  const char* name;
  // out = in[0] ^ in[1] ^ in[2]; by number of reads and, where it writes, by kind of store; `bytes` each, a
  // multiple of 256, addresses of 64.
  void (*write[4][2])(const char* const* in, char* out, size_t bytes);
  // The same, folded into one value, which is returned so that it is not left out.
  char (*read[4])(const char* const* in, size_t bytes);
  // The sum of squared differences in float64, with nothing kept beside it; by DType.
  double (*squares[4])(const void* x, const void* y, size_t n);
};

const Loops& loops_for(const char* target);  // as wide as the library's instruction-set target

// Work split between `threads` threads by OpenMP.
void stream(const Loops& loops, int reads, char* const* in, char* out, size_t bytes, bool past_caches,
            int threads);
double sum_of_squares(const Loops& loops, mseloss::DType dtype, const void* x, const void* y, size_t n,
                      int threads);

}  // namespace bench
