// The part of CUDA C++ that the kernels use, on the model. See cuda/kernels/language.h.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda/model/machine.h"
#include "numerics/formats.h"

#define MSELOSS_KERNEL(blocks) void
#define MSELOSS_DEVICE static inline
#define MSELOSS_PARAMETER(Type, name) const Type& name
#define MSELOSS_UNROLL
#define MSELOSS_LOOP
#define MSELOSS_SHARED(Type, name, count) \
  const Shared<Type> name { model::running->declare_shared(#name, sizeof(Type), count, alignof(Type)) }

namespace mseloss::cuda {

struct Index {
  unsigned x, y, z;
};
inline thread_local constinit Index threadIdx{}, blockIdx{}, gridDim{};

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

template <class T>
struct Shared {
  int array;
  T load(int i) const { return *element(i, model::Access::kRead); }
  void store(int i, const T& value) const { *element(i, model::Access::kWrite) = value; }
  void add(int i, T value) const { *element(i, model::Access::kAtomic) += value; }
  void add_bits(int i, T bits) const { *element(i, model::Access::kAtomic) |= bits; }
  T* own(int first, int count) const {
    return static_cast<T*>(model::running->own_shared(array, first, count));
  }

 private:
  T* element(int i, model::Access kind) const {
    return static_cast<T*>(model::running->shared_element(array, i, kind));
  }
};

template <class T>
T* checked(uint64_t address, model::Access kind) {
  model::running->access(address, sizeof(T), alignof(T), kind);
  return reinterpret_cast<T*>(address);
}
template <class T>
T load_streaming(uint64_t address) {
  return *checked<T>(address, model::Access::kRead);
}
template <class T>
T load(uint64_t address) {
  return *checked<T>(address, model::Access::kRead);
}
template <class T>
T load_coherent(uint64_t address) {
  return *checked<T>(address, model::Access::kCoherentRead);
}
template <class T>
void store_streaming(uint64_t address, const T& value) {
  *checked<T>(address, model::Access::kWrite) = value;
}
template <class T>
void store(uint64_t address, const T& value) {
  *checked<T>(address, model::Access::kWrite) = value;
}
template <class T>
void store_coherent(uint64_t address, const T& value) {
  *checked<T>(address, model::Access::kWrite) = value;
}
template <class T>
T add_global(uint64_t address, T value) {
  T* const at = checked<T>(address, model::Access::kAtomic);
  const T old = *at;
  *at += value;
  model::running->after_atomic();
  return old;
}
inline void add_bits_global(uint64_t address, uint32_t bits) {
  *checked<uint32_t>(address, model::Access::kAtomic) |= bits;
  model::running->after_atomic();
}

// NOLINTBEGIN(bugprone-reserved-identifier): CUDA's names
inline void __syncthreads() { model::running->barrier(); }
inline void __threadfence() { model::running->fence(); }

inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline float __double2float_rn(double value) { return static_cast<float>(value); }
inline float __double2float_rz(double value) {
  const float nearest = static_cast<float>(value);
  if (std::fabs(static_cast<double>(nearest)) <= std::fabs(value) || value != value) return nearest;
  return std::nextafter(nearest, 0.0F);
}
// NOLINTEND(bugprone-reserved-identifier)

inline float half_to_float(uint16_t bits) {
  return static_cast<float>(mseloss::load(DType::kFloat16, &bits));
}
inline uint16_t float_to_half(float value) {
  uint16_t bits;
  store_rounded(value, DType::kFloat16, &bits);
  return bits;
}
inline uint16_t float_to_bfloat16(float value) {
  uint16_t bits;
  store_rounded(value, DType::kBFloat16, &bits);
  return bits;
}

}  // namespace mseloss::cuda
