// The loop that a C++ user would write: OpenMP, -O3 -march=native.
#pragma once

#include "bench/cases/case.h"

namespace bench {

bool has_openmp_loop(const Case& c);  // false without a plain loop, or if the compiler lacks _Float16
void run_openmp_loop(const Case& c, const Pointers& at);

}  // namespace bench
