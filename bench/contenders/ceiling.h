// The bandwidth ceiling: plain streaming loops that move the same bytes in the same number of streams.
#pragma once

#include <cstddef>

#include "mseloss/types.h"

namespace bench {

// Loops for one vector width (ceiling_loops.cpp is compiled once for each).
struct CeilingLoops {
  // out = in[0] ^ in[1] ^ in[2], indexed by number of reads and by kind of store (cached, non-temporal).
  // `bytes` per stream is a multiple of 256, addresses are multiples of 64.
  void (*write[4][2])(const char* const* in, char* out, size_t bytes);
  // XOR of all inputs folded into the returned byte, which keeps the loop from being optimised away.
  char (*read[4])(const char* const* in, size_t bytes);
  // Sum of squared differences in float64, indexed by DType; null without hardware conversion.
  double (*squares[4])(const void* x, const void* y, size_t n);
};

// The loops with the vector width of an instruction-set target.
const CeilingLoops& ceiling_loops(const char* target);

// One pass, on OpenMP threads.
void stream(const CeilingLoops& loops, int reads, char* const* in, char* out, size_t bytes, bool non_temporal,
            int threads);
double sum_of_squares(const CeilingLoops& loops, mseloss::DType dtype, const void* x, const void* y, size_t n,
                      int threads);

}  // namespace bench
