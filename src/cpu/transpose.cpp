// Transposition between a strided source and a tile: bits are moved, so only the element size matters.
#include "cpu/targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/transpose.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <cstring>

#include "cpu/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_INLINE void move(const T* from, T* to) {
  std::memcpy(to, from, sizeof(T));  // no alignment is assumed
}

#if HWY_TARGET != HWY_SCALAR
// kLanes x kLanes elements in 128-bit vectors: log2(kLanes) perfect shuffles.
template <class T>
HWY_INLINE void transpose_square(const T* from, ptrdiff_t from_stride, T* to, ptrdiff_t to_stride) {
  constexpr size_t kLanes = 16 / sizeof(T);
  const hn::FixedTag<T, kLanes> d;
  hn::Vec<decltype(d)> rows[kLanes], next[kLanes];
  for (size_t j = 0; j < kLanes; ++j) rows[j] = hn::LoadU(d, from + j * from_stride);
  for (size_t step = 1; step < kLanes; step *= 2) {
    for (size_t j = 0; j < kLanes / 2; ++j) {
      next[2 * j] = hn::InterleaveLower(d, rows[j], rows[j + kLanes / 2]);
      next[2 * j + 1] = hn::InterleaveUpper(d, rows[j], rows[j + kLanes / 2]);
    }
    for (size_t j = 0; j < kLanes; ++j) rows[j] = next[j];
  }
  for (size_t i = 0; i < kLanes; ++i) hn::StoreU(rows[i], d, to + i * to_stride);
}
#endif

template <class T>
void transpose(const void* from_bytes, ptrdiff_t from_stride, void* to_bytes, ptrdiff_t to_stride,
               size_t rows, size_t columns) {
  const T* from = static_cast<const T*>(from_bytes);
  T* to = static_cast<T*>(to_bytes);
  size_t squares_i = 0, squares_j = 0;
#if HWY_TARGET != HWY_SCALAR
  constexpr size_t kLanes = 16 / sizeof(T);
  squares_i = rows / kLanes * kLanes;
  squares_j = columns / kLanes * kLanes;
  const auto square = [&](size_t i, size_t j) HWY_ATTR {
    transpose_square(from + static_cast<ptrdiff_t>(j) * from_stride + i, from_stride,
                     to + static_cast<ptrdiff_t>(i) * to_stride + j, to_stride);
  };
  // The side of the longer stride is the tensor, the other the tile: whole cache lines of the tensor at a
  // time.
  if (to_stride > from_stride) {
    for (size_t i = 0; i < squares_i; i += kLanes) {
      for (size_t j = 0; j < squares_j; j += kLanes) square(i, j);
    }
  } else {
    for (size_t j = 0; j < squares_j; j += kLanes) {
      for (size_t i = 0; i < squares_i; i += kLanes) square(i, j);
    }
  }
#endif
  for (size_t j = 0; j < columns; ++j) {
    for (size_t i = j < squares_j ? squares_i : 0; i < rows; ++i) {
      move(from + static_cast<ptrdiff_t>(j) * from_stride + i,
           to + static_cast<ptrdiff_t>(i) * to_stride + j);
    }
  }
}

void fill_transpose(Kernels* kernels) {
  kernels->transpose[0] = &transpose<uint16_t>;
  kernels->transpose[1] = &transpose<uint32_t>;
  kernels->transpose[2] = &transpose<uint64_t>;
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mseloss::cpu {
HWY_EXPORT(fill_transpose);
void fill_transpose_kernels(Kernels* kernels, size_t target) {
  HWY_DISPATCH_TABLE(fill_transpose)[target](kernels);
}
}  // namespace mseloss::cpu
#endif
