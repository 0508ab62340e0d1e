// Storage dtypes and compute types: load, convert, round once, store. Every operation rounds to nearest even
// and keeps subnormals.
#pragma once

#include "cuda/arguments.h"
#include "cuda/kernels/language.h"

namespace mseloss::cuda {

template <class To, class From>
MSELOSS_DEVICE To bits_as(const From& from) {
  return __builtin_bit_cast(To, from);
}

MSELOSS_DEVICE float subtract(float a, float b) { return __fsub_rn(a, b); }
MSELOSS_DEVICE double subtract(double a, double b) { return __dsub_rn(a, b); }
MSELOSS_DEVICE float multiply(float a, float b) { return __fmul_rn(a, b); }
MSELOSS_DEVICE double multiply(double a, double b) { return __dmul_rn(a, b); }
MSELOSS_DEVICE double fused(double a, double b, double c) { return __fma_rn(a, b, c); }
MSELOSS_DEVICE double add(double a, double b) { return __dadd_rn(a, b); }
MSELOSS_DEVICE double magnitude(double v) {
  return bits_as<double>(bits_as<uint64_t>(v) & ~(uint64_t{1} << 63));
}
MSELOSS_DEVICE bool is_finite(double v) { return magnitude(v) < bits_as<double>(uint64_t{0x7ff} << 52); }

// The storage formats, with the compute type of each.
struct Float32 {
  using Bits = uint32_t;
  using Compute = float;
  MSELOSS_DEVICE float widen(Bits bits) { return bits_as<float>(bits); }
  MSELOSS_DEVICE Bits narrow(float value) { return bits_as<Bits>(value); }
};
struct Float16 {
  using Bits = uint16_t;
  using Compute = float;
  MSELOSS_DEVICE float widen(Bits bits) { return half_to_float(bits); }
  MSELOSS_DEVICE Bits narrow(float value) { return float_to_half(value); }
};
struct BFloat16 {
  using Bits = uint16_t;
  using Compute = float;
  MSELOSS_DEVICE float widen(Bits bits) { return bits_as<float>(static_cast<uint32_t>(bits) << 16); }
  MSELOSS_DEVICE Bits narrow(float value) { return float_to_bfloat16(value); }
};
struct Float64 {
  using Bits = uint64_t;
  using Compute = double;
  MSELOSS_DEVICE double widen(Bits bits) { return bits_as<double>(bits); }
  MSELOSS_DEVICE Bits narrow(double value) { return bits_as<Bits>(value); }
};

// One element of any dtype and address. Loading and converting are separate, so that several loads can be in
// flight.
MSELOSS_DEVICE uint64_t load_bits(uint64_t address, DType dtype, bool aligned) {
  const int size = size_of(dtype);
  if (!aligned) {
    uint64_t bits = 0;
    MSELOSS_LOOP
    for (int i = 0; i < size; ++i) bits |= static_cast<uint64_t>(load<uint8_t>(address + i)) << (8 * i);
    return bits;
  }
  if (size == 4) return load<uint32_t>(address);
  if (size == 2) return load<uint16_t>(address);
  return size == 8 ? load<uint64_t>(address) : load<uint8_t>(address);
}

MSELOSS_DEVICE void store_bits(uint64_t address, uint64_t bits, DType dtype, bool aligned) {
  const int size = size_of(dtype);
  if (!aligned) {
    MSELOSS_LOOP
    for (int i = 0; i < size; ++i) store(address + i, static_cast<uint8_t>(bits >> (8 * i)));
  } else if (size == 4) {
    store(address, static_cast<uint32_t>(bits));
  } else if (size == 2) {
    store(address, static_cast<uint16_t>(bits));
  } else {
    store(address, bits);
  }
}

// Exact: the compute type holds every dtype of the plan's operands.
template <class C>
MSELOSS_DEVICE C widen(uint64_t bits, DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return Float16::widen(static_cast<uint16_t>(bits));
    case DType::kBFloat16:
      return BFloat16::widen(static_cast<uint16_t>(bits));
    case DType::kFloat64:
      return static_cast<C>(Float64::widen(bits));
    case DType::kBool:
      return bits != 0;
    case DType::kFloat32:
      break;
  }
  return Float32::widen(static_cast<uint32_t>(bits));
}

// Rounds to float32 towards zero and sets the last bit if that was inexact (rounding to odd). A second
// rounding to at most 22 bits then gives what one rounding of `value` gives.
MSELOSS_DEVICE float round_to_odd(double value) {
  const float rounded = __double2float_rz(value);
  return rounded != value && value == value ? bits_as<float>(bits_as<uint32_t>(rounded) | 1) : rounded;
}

// One rounding to `dtype`.
MSELOSS_DEVICE uint64_t narrow(float value, DType dtype) {
  if (dtype == DType::kFloat32) return Float32::narrow(value);
  if (dtype == DType::kFloat16) return Float16::narrow(value);
  if (dtype == DType::kBFloat16) return BFloat16::narrow(value);
  return Float64::narrow(value);
}
MSELOSS_DEVICE uint64_t narrow(double value, DType dtype) {
  if (dtype == DType::kFloat64) return Float64::narrow(value);
  if (dtype == DType::kFloat32) return Float32::narrow(__double2float_rn(value));
  return narrow(round_to_odd(value), dtype);
}

// A result, rounded to the plan's dtype and then to its operand's.
template <class C>
MSELOSS_DEVICE uint64_t round_twice(C value, DType first, DType second) {
  const uint64_t bits = narrow(value, first);
  if (first == second) return bits;
  return narrow(widen<C>(bits, first), second);
}

}  // namespace mseloss::cuda
