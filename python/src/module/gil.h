// Calls of the library with or without the GIL.
#pragma once

#include <cstdint>
#include <optional>

namespace mseloss::python {

// Elements. Shorter calls keep the GIL: releasing and reacquiring it can cost more than the call itself.
inline constexpr int64_t kReleaseGil = 1 << 15;

// Returns what `call` over `count` elements returns. Needs the GIL. `ReleaseGil` is the binding library's
// guard that releases the GIL for its lifetime.
template <class ReleaseGil, class Call>
auto call_core(int64_t count, Call call) {
  std::optional<ReleaseGil> released;
  if (count >= kReleaseGil) released.emplace();
  return call();
}

}  // namespace mseloss::python
