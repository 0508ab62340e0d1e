// What mseloss._core shares with the other extension modules of the package; the functions by its capsule
// `_core._native`: one library and one pool in the process, whichever module calls.
#pragma once

#include <span>

#include "mseloss/mseloss.h"
#include "pool.h"

namespace mseloss::python {

// Shorter calls keep the GIL: giving it up and taking it back can cost more than they do.
inline constexpr int64_t kReleaseGil = 1 << 15;  // elements

struct Native {
  decltype(&mseloss::loss) loss;
  decltype(&mseloss::loss_and_grad) loss_and_grad;
  decltype(&python::acquire) acquire;
  decltype(&python::release) release;
  // Dense strides for `shape`, with the dimensions in memory in the order that `like`'s strides give.
  void (*dense_strides)(std::span<const int64_t> shape, std::span<const int64_t> like, int64_t* strides);
};
inline constexpr const char* kNativeCapsule = "mseloss._core._native";

}  // namespace mseloss::python
