// The scale of a mean: 2 / count, correctly rounded.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "mseloss/types.h"
#include "numerics/float_environment.h"
#include "numerics/host_device.h"

namespace mseloss {

// 2 / count rounded to nearest even in T; 0 for count 0. T(2.0 / count) would round twice: for float its
// first wrong result is at count = 846731599.
template <class T>
MSELOSS_HOST_DEVICE T mean_scale(uint64_t count) {
  constexpr int kPrecision = std::is_same_v<T, float> ? 24 : 53;
  if (count == 0) return 0;                                                     // empty: no element is scaled
  if (count <= uint64_t{1} << kPrecision) return T{2} / static_cast<T>(count);  // the division rounds once
  const int bits = std::bit_width(count);
  // 2^(bits + precision + 1) / count has precision + 2 or + 3 bits. The remainder sets a sticky last bit, so
  // the conversion to T is the only rounding.
  const unsigned __int128 numerator = static_cast<unsigned __int128>(1) << (bits + kPrecision + 1);
  uint64_t quotient = static_cast<uint64_t>(numerator / count);
  if (numerator % count != 0) quotient |= 1;
  return std::ldexp(static_cast<T>(quotient), -(bits + kPrecision));
}

// The same for a mean of this compute dtype, independent of the caller's rounding mode.
MSELOSS_HOST_DEVICE inline double mean_scale(DType dtype, int64_t count) {
  const FloatEnvironment environment;
  return dtype == DType::kFloat64 ? mean_scale<double>(count) : double{mean_scale<float>(count)};
}

}  // namespace mseloss
