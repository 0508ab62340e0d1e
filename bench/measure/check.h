// The gate: a case whose result is not right to the bit is not timed.
#pragma once

#include "bench/cases/case.h"

namespace bench {

struct Pointers {
  const char* in[3];  // grad_output, input, target
  char* out;          // grad_input, or the elementwise loss
  char* loss;         // 0-dimensional, of the case's dtype
};

// Empty, or what differs first. Scalar, from the definitions, sharing no code with src/.
std::string difference(const Case& c, const Pointers& at);

}  // namespace bench
