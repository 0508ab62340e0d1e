// The loop a C++ user would write: OpenMP, -O3 -march=native, no other care.
#pragma once

#include "bench/measure/check.h"

namespace bench {

bool has_baseline(const Case& c);  // the compiler has the dtype's arithmetic
void baseline(const Case& c, const Pointers& at);

}  // namespace bench
