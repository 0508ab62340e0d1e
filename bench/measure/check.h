// The correctness gate: only a case with a bit-exact result is timed.
#pragma once

#include <string>

#include "bench/cases/case.h"

namespace bench {

// Compares the result with a scalar reference that shares no code with src/. Returns an error text, or an
// empty string.
std::string check(const Case& c, const Pointers& at);

}  // namespace bench
