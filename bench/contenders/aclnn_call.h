// The two-phase call as a program for an NPU makes it.
#pragma once

#include <functional>

#include "bench/cases/case.h"

namespace bench {

// Both phases of aclnnMseLossBackward on 16 elements, and the wait for the stream; empty where the library
// was built without CANN's host API, or when setting up failed.
std::function<void()> aclnn_call(DType dtype);

}  // namespace bench
