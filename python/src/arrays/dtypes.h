// The dtypes that arrays may have, and the number 1 in each.
#pragma once

#include <cstdint>

#include "mseloss/mseloss.h"

namespace mseloss::python {

inline constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64};
// For error messages.
inline constexpr const char* kDTypeNames = "float32, float16, bfloat16 or float64";
inline constexpr const char* kWeightDTypeNames = "float32, float16, bfloat16, float64 or bool";

// The default grad_output, as a 0-dimensional tensor in static memory.
inline ConstTensor one_of(DType dtype) {
  static constexpr double float64 = 1;
  static constexpr float float32 = 1;
  static constexpr uint16_t float16 = 0x3c00, bfloat16 = 0x3f80;
  switch (dtype) {
    case DType::kFloat64:
      return {&float64, dtype};
    case DType::kFloat16:
      return {&float16, dtype};
    case DType::kBFloat16:
      return {&bfloat16, dtype};
    default:
      return {&float32, dtype};
  }
}

}  // namespace mseloss::python
