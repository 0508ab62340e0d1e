// Fork and join.
#pragma once

namespace mseloss::cpu {

// Calls task(context, index) for every index in [0, count), on this thread and helpers, and returns when all
// are done.
void parallel(int count, void (*task)(void* context, int index), void* context);

}  // namespace mseloss::cpu
