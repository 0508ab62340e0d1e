// What mseloss._core offers to the package's other extension modules, in its capsule `_core._native`: one
// library and one pool in the process, whichever module calls.
#pragma once

#include <span>

#include "mseloss/mseloss.h"
#include "pool.h"

namespace mseloss::python {

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
