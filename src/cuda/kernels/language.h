// The part of CUDA C++ that the kernels use. Everything else they need is here, so that the model
// (cuda/model/language.h) replaces this one file: kernels access global memory only through these functions
// and shared memory only through Shared.
#pragma once

#if defined(MSELOSS_CUDA_MODEL)
#include "cuda/model/language.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

// A kernel of which at least `blocks` blocks fit on a multiprocessor: two may take 128 registers a thread,
// three 80.
#define MSELOSS_KERNEL(blocks) __global__ void __launch_bounds__(mseloss::cuda::kThreads, blocks)
#define MSELOSS_DEVICE static __device__ __forceinline__
#define MSELOSS_PARAMETER(Type, name) const __grid_constant__ Type name
#define MSELOSS_UNROLL _Pragma("unroll")
#define MSELOSS_LOOP _Pragma("unroll 1")  // rare code stays small
// Declares `count` elements of shared memory.
#define MSELOSS_SHARED(Type, name, count) \
  __shared__ Type name##_memory[count];   \
  const Shared<Type> name { name##_memory }

namespace mseloss::cuda {

template <class T>
struct Shared {
  T* memory;
  __device__ __forceinline__ T load(int i) const { return memory[i]; }
  __device__ __forceinline__ void store(int i, const T& value) const { memory[i] = value; }
  __device__ __forceinline__ void add(int i, T value) const { atomicAdd(&memory[i], value); }
  __device__ __forceinline__ void add_bits(int i, T bits) const { atomicOr(&memory[i], bits); }
  // Elements [first, first + count), which only the calling thread accesses until the next barrier.
  __device__ __forceinline__ T* own(int first, int) const { return memory + first; }
};

// Global memory. `streaming`: read or written once. `coherent`: also what other blocks of this launch wrote.
template <class T>
MSELOSS_DEVICE T load_streaming(uint64_t address) {
  return __ldcs(reinterpret_cast<const T*>(address));
}
template <class T>
MSELOSS_DEVICE T load(uint64_t address) {
  return __ldca(reinterpret_cast<const T*>(address));
}
template <class T>
MSELOSS_DEVICE T load_coherent(uint64_t address) {
  return __ldcg(reinterpret_cast<const T*>(address));
}
template <class T>
MSELOSS_DEVICE void store_streaming(uint64_t address, const T& value) {
  __stcs(reinterpret_cast<T*>(address), value);
}
template <class T>
MSELOSS_DEVICE void store(uint64_t address, const T& value) {
  __stwb(reinterpret_cast<T*>(address), value);
}
template <class T>
MSELOSS_DEVICE void store_coherent(uint64_t address, const T& value) {
  __stcg(reinterpret_cast<T*>(address), value);
}
// In PTX, because for an address whose space it does not know the compiler adds a loop for shared memory.
MSELOSS_DEVICE uint32_t add_global(uint64_t address, uint32_t value) {
  uint32_t old;
  asm volatile("atom.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(address), "r"(value) : "memory");
  return old;
}
MSELOSS_DEVICE void add_global(uint64_t address, uint64_t value) {
  asm volatile("red.global.add.u64 [%0], %1;" : : "l"(address), "l"(value) : "memory");
}
MSELOSS_DEVICE void add_bits_global(uint64_t address, uint32_t bits) {
  asm volatile("red.global.or.b32 [%0], %1;" : : "l"(address), "r"(bits) : "memory");
}

MSELOSS_DEVICE float half_to_float(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
MSELOSS_DEVICE uint16_t float_to_half(float value) { return __half_as_ushort(__float2half_rn(value)); }
MSELOSS_DEVICE uint16_t float_to_bfloat16(float value) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

}  // namespace mseloss::cuda

#endif
