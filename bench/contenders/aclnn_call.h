// The two-phase aclnn call, as a program written for an NPU makes it.
#pragma once

#include <functional>

#include "bench/cases/case.h"

namespace bench {

// Both phases of aclnnMseLossBackward on 16 elements and the stream synchronisation. Empty if the library was
// built without CANN's host API or the setup fails.
std::function<void()> aclnn_call(DType dtype);

}  // namespace bench
