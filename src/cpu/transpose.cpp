// Transposition between a strided source and a tile: bits are moved, so only the element size matters.
#include "cpu/targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/transpose.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
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
// One 128-bit block from each of the rows from, from + stride, ...: as many as the vector has blocks.
template <class D>
HWY_INLINE hn::Vec<D> load_blocks(D d, const hn::TFromD<D>* from, ptrdiff_t stride) {
  using T = hn::TFromD<D>;
  constexpr size_t kBytes = hn::MaxLanes(D()) * sizeof(T);
  if constexpr (kBytes <= 16) {
    (void)stride;
    return hn::LoadU(d, from);
  } else {
    const hn::Half<D> half;
    constexpr ptrdiff_t kHalfBlocks = kBytes / 32;
    const auto low = load_blocks(half, from, stride);
    return hn::Combine(d, load_blocks(half, from + kHalfBlocks * stride, stride), low);
  }
}

// to[i * to_stride + j] = from[j * from_stride + i] for a block of i and a vector of j: blocks of that many
// rows side by side, then a perfect shuffle for each bit of the index.
template <bool kStream, class D>
HWY_INLINE void transpose_panel(D d, const hn::TFromD<D>* from, ptrdiff_t from_stride, hn::TFromD<D>* to,
                                ptrdiff_t to_stride) {
  constexpr size_t kBlock = 16 / sizeof(hn::TFromD<D>);
  hn::Vec<D> rows[kBlock], next[kBlock];
  for (size_t k = 0; k < kBlock; ++k) {
    rows[k] = load_blocks(d, from + static_cast<ptrdiff_t>(k) * from_stride,
                          static_cast<ptrdiff_t>(kBlock) * from_stride);
  }
  for (size_t step = 1; step < kBlock; step *= 2) {
    for (size_t k = 0; k < kBlock / 2; ++k) {
      next[2 * k] = hn::InterleaveLower(d, rows[k], rows[k + kBlock / 2]);
      next[2 * k + 1] = hn::InterleaveUpper(d, rows[k], rows[k + kBlock / 2]);
    }
    for (size_t k = 0; k < kBlock; ++k) rows[k] = next[k];
  }
  for (size_t i = 0; i < kBlock; ++i) {
    hn::TFromD<D>* row = to + static_cast<ptrdiff_t>(i) * to_stride;
    if constexpr (kStream) {
      hn::Stream(rows[i], d, row);
    } else {
      hn::StoreU(rows[i], d, row);
    }
  }
}

// All whole panels of i in [0, rows) and j in [first, columns); returns the first j it left.
template <bool kStream, class D>
HWY_INLINE size_t transpose_panels(D d, const hn::TFromD<D>* from, ptrdiff_t from_stride, hn::TFromD<D>* to,
                                   ptrdiff_t to_stride, size_t rows, size_t first, size_t columns) {
  constexpr size_t kBlock = 16 / sizeof(hn::TFromD<D>);
  const size_t lanes = hn::Lanes(d), last = first + (columns - first) / lanes * lanes;
  const auto panel = [&](size_t i, size_t j) HWY_ATTR {
    transpose_panel<kStream>(d, from + static_cast<ptrdiff_t>(j) * from_stride + i, from_stride,
                             to + static_cast<ptrdiff_t>(i) * to_stride + j, to_stride);
  };
  // The side of the longer stride is the tensor, the other the tile: whole cache lines of the tensor at a
  // time.
  if (to_stride > from_stride) {
    for (size_t i = 0; i + kBlock <= rows; i += kBlock) {
      for (size_t j = first; j < last; j += lanes) panel(i, j);
    }
  } else {
    for (size_t j = first; j < last; j += lanes) {
      // The hardware follows no such pattern; 6 % of a 4096 x 4096 call.
      for (size_t k = j + lanes; k < HWY_MIN(j + 2 * lanes, columns); ++k) {
        for (size_t i = 0; i < rows; i += 64 / sizeof(hn::TFromD<D>)) {
          hwy::Prefetch(from + static_cast<ptrdiff_t>(k) * from_stride + i);
        }
      }
      for (size_t i = 0; i + kBlock <= rows; i += kBlock) panel(i, j);
    }
  }
  return last;
}
#endif

template <class T>
void transpose(const void* from_bytes, ptrdiff_t from_stride, void* to_bytes, ptrdiff_t to_stride,
               size_t rows, size_t columns, bool stream) {
  const T* from = static_cast<const T*>(from_bytes);
  T* to = static_cast<T*>(to_bytes);
  size_t done_rows = 0, done = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<T> d;
  const hn::FixedTag<T, 16 / sizeof(T)> block;
  const size_t vector = hn::Lanes(d) * sizeof(T);
  const bool aligned = (reinterpret_cast<uintptr_t>(to) | to_stride * sizeof(T)) % vector == 0;
  done_rows = rows / (16 / sizeof(T)) * (16 / sizeof(T));
  done = stream && aligned ? transpose_panels<true>(d, from, from_stride, to, to_stride, rows, 0, columns)
                           : transpose_panels<false>(d, from, from_stride, to, to_stride, rows, 0, columns);
  done = transpose_panels<false>(block, from, from_stride, to, to_stride, rows, done, columns);
#else
  (void)stream;
#endif
  for (size_t j = 0; j < columns; ++j) {
    for (size_t i = j < done ? done_rows : 0; i < rows; ++i) {
      move(from + static_cast<ptrdiff_t>(j) * from_stride + i,
           to + static_cast<ptrdiff_t>(i) * to_stride + j);
    }
  }
}

constexpr ptrdiff_t kSplitAhead = 2048;  // bytes

// The same for rows that lie closely interleaved: loads that take them apart.
template <class T>
void split(const void* from_bytes, ptrdiff_t from_stride, void* to_bytes, ptrdiff_t to_stride, size_t rows,
           size_t columns) {
  const T* from = static_cast<const T*>(from_bytes);
  T* to = static_cast<T*>(to_bytes);
  size_t j = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  // The last column is left out: behind it there may be nothing to load.
  for (; j + lanes < columns; j += lanes) {
    hn::Vec<decltype(d)> v[kMaxSplit];
    const T* at = from + static_cast<ptrdiff_t>(j) * from_stride;
    for (ptrdiff_t k = 0; k < from_stride; ++k) hwy::Prefetch(at + kSplitAhead / sizeof(T) + k * lanes);
    if (from_stride == 2) {
      hn::LoadInterleaved2(d, at, v[0], v[1]);
    } else if (from_stride == 3) {
      hn::LoadInterleaved3(d, at, v[0], v[1], v[2]);
    } else {
      hn::LoadInterleaved4(d, at, v[0], v[1], v[2], v[3]);
    }
    for (size_t i = 0; i < rows; ++i) hn::StoreU(v[i], d, to + static_cast<ptrdiff_t>(i) * to_stride + j);
  }
#endif
  for (; j < columns; ++j) {
    for (size_t i = 0; i < rows; ++i) {
      move(from + static_cast<ptrdiff_t>(j) * from_stride + i,
           to + static_cast<ptrdiff_t>(i) * to_stride + j);
    }
  }
}

void fill_transpose(Kernels* kernels) {
  kernels->split[0] = &split<uint16_t>;
  kernels->split[1] = &split<uint32_t>;
  kernels->split[2] = &split<uint64_t>;
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
