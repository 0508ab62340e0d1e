// Interleaving, deinterleaving, strided loads and stores: copies in which one side's elements are 2 to 8
// elements apart. They move bits, so only the element size matters.
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/interleave.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <array>
#include <cstring>

#include "cpu/kernels/kernels.h"

#ifndef MSELOSS_INTERLEAVE_CPP_
#define MSELOSS_INTERLEAVE_CPP_
namespace mseloss::cpu {

// A 64-byte vector that holds an element of a row in every second, third, ... lane.
template <class T>
struct StridedLanes {
  static constexpr size_t kLanes = 64 / sizeof(T);
  static constexpr size_t kMaxStride = kLanes / 4;  // masks are slower with fewer than 4 elements per vector

  size_t count = 0;                     // elements
  uint8_t mask[8] = {};                 // the lanes that hold them, as bits
  alignas(64) T compress[kLanes] = {};  // source lane of each lane, to gather the elements in the first lanes
  alignas(64) T expand[kLanes] = {};    // source lane of each lane, for the inverse
};

template <class T>
constexpr std::array<StridedLanes<T>, StridedLanes<T>::kMaxStride + 1> strided_lanes_tables() {
  std::array<StridedLanes<T>, StridedLanes<T>::kMaxStride + 1> all;
  for (size_t stride = 2; stride < all.size(); ++stride) {
    StridedLanes<T>& table = all[stride];
    table.count = table.kLanes / stride;
    for (size_t i = 0; i < table.count; ++i) table.mask[i * stride / 8] |= 1 << i * stride % 8;
    for (size_t i = 0; i < table.kLanes; ++i) {
      table.compress[i] = static_cast<T>(i * stride % table.kLanes);
      table.expand[i] = static_cast<T>(i / stride);
    }
  }
  return all;
}
template <class T>
inline constexpr auto kStridedLanes = strided_lanes_tables<T>();

}  // namespace mseloss::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#undef MSELOSS_MASKS  // whether the target has masked loads and stores
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
#define MSELOSS_MASKS 1
#else
#define MSELOSS_MASKS 0
#endif

// Prefetch distance in bytes for a row of `bytes`. The data of the next tile usually follows a long row.
constexpr size_t prefetch_distance(size_t bytes) {
  return bytes < kPackPrefetchBytes ? kPackPrefetchBytes / 4 : kPackPrefetchBytes;
}

// Where to prefetch while a segment of `bytes` is copied: in a later segment, or past the end of this one.
class Prefetcher {
 public:
  explicit Prefetcher(size_t bytes)
      : segments_(static_cast<ptrdiff_t>(kPackPrefetchBytes / bytes) + 1),
        bytes_(static_cast<ptrdiff_t>(prefetch_distance(bytes))) {}
  HWY_INLINE ptrdiff_t offset(const Segment* p, const Segment* end, ptrdiff_t Segment::*side) const {
    return end - p > segments_ ? p[segments_].*side : p->*side + bytes_;
  }

 private:
  ptrdiff_t segments_, bytes_;
};

// to[i * to_stride] = from[i * from_stride], first <= i < n.
template <class T>
HWY_INLINE void copy_strided_elements(const T* from, ptrdiff_t from_stride, T* to, ptrdiff_t to_stride,
                                      size_t first, size_t n) {
  for (size_t i = first; i < n; ++i) {
    // No alignment is assumed.
    std::memcpy(to + static_cast<ptrdiff_t>(i) * to_stride, from + static_cast<ptrdiff_t>(i) * from_stride,
                sizeof(T));
  }
}

#if MSELOSS_MASKS
// Permutes the lanes of v by index[]; Highway 1.0.3 has this for lanes of 4 and 8 bytes only.
template <class D>
HWY_INLINE hn::Vec<D> lookup(D d, hn::Vec<D> v, const hn::TFromD<D>* index) {
  if constexpr (sizeof(hn::TFromD<D>) == 2) {
    return hn::Vec<D>{_mm512_permutexvar_epi16(hn::Load(d, index).raw, v.raw)};
  } else {
    return hn::TableLookupLanes(v, hn::IndicesFromVec(d, hn::Load(d, index)));
  }
}

// Splits a row of n elements into full vectors of table.count elements and a tail, with the masks of the
// elements' lanes on the strided and on the contiguous side.
template <class D>
struct Masks {
  const StridedLanes<hn::TFromD<D>>& table;
  size_t full, tail;
  hn::Mask<D> strided, strided_tail, contiguous, contiguous_tail;

  HWY_INLINE Masks(D d, size_t stride, size_t n)
      : table(kStridedLanes<hn::TFromD<D>>[stride]),
        full((n - 1) / table.count * table.count),
        tail(n - full),
        strided(hn::LoadMaskBits(d, table.mask)),
        strided_tail(hn::And(strided, hn::FirstN(d, (tail - 1) * stride + 1))),
        contiguous(hn::FirstN(d, table.count)),
        contiguous_tail(hn::FirstN(d, tail)) {}
};

// Calls f(i, strided mask, contiguous mask) for each vector of a row; i is its first element.
template <class D, class F>
HWY_INLINE void for_each_vector(const Masks<D>& masks, const F& f) {
  for (size_t i = 0; i < masks.full; i += masks.table.count) f(i, masks.strided, masks.contiguous);
  f(masks.full, masks.strided_tail, masks.contiguous_tail);
}

// Copies elements between a strided and a contiguous side, one vector at a time; kLoad: from the strided
// side.
template <bool kLoad, class D>
HWY_INLINE void copy_strided_masked(D d, const Segment* segments, size_t count, const char* from, char* to,
                                    size_t stride, size_t n) {
  using T = hn::TFromD<D>;
  const Masks<D> masks(d, stride, n);
  const Prefetcher prefetcher(n * stride * sizeof(T));
  const size_t from_step = kLoad ? stride : 1, to_step = kLoad ? 1 : stride;
  const T* index = kLoad ? masks.table.compress : masks.table.expand;
  for (const Segment* p = segments; p != segments + count; ++p) {
    const T* source = reinterpret_cast<const T*>(from + p->from);
    T* sink = reinterpret_cast<T*>(to + p->to);
    // The strided side: masked stores to uncached lines are slow, too.
    const auto side = kLoad ? &Segment::from : &Segment::to;
    const char* base = kLoad ? from : to;
    const T* later = reinterpret_cast<const T*>(base + prefetcher.offset(p, segments + count, side));
    for_each_vector(masks, [&](size_t i, auto strided, auto contiguous) MSELOSS_INLINE {
      hwy::Prefetch(later + i * stride);
      const auto v = hn::MaskedLoad(kLoad ? strided : contiguous, d, source + i * from_step);
      hn::BlendedStore(lookup(d, v, index), kLoad ? contiguous : strided, d, sink + i * to_step);
    });
  }
}
#endif

// Deinterleaves rows [0, rows) of `columns` columns with Highway's interleaved loads.
template <class D>
HWY_INLINE void deinterleave_rows([[maybe_unused]] D d, const hn::TFromD<D>* from, ptrdiff_t from_stride,
                                  hn::TFromD<D>* to, ptrdiff_t to_stride, size_t rows, size_t columns) {
  size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const size_t lanes = hn::Lanes(d);
  if (columns <= lanes) {
    if constexpr (hn::MaxLanes(d) * sizeof(*from) > 16) {
      return deinterleave_rows(hn::Half<D>(), from, from_stride, to, to_stride, rows, columns);
    }
  } else {
    const size_t prefetch =
        prefetch_distance(columns * static_cast<size_t>(from_stride) * sizeof(*from)) / sizeof(*from);
    // Excludes the last column: the memory past it may not be mapped.
    for (size_t j = 0, last = columns - 1 - lanes;; j = HWY_MIN(j + lanes, last)) {
      hn::Vec<D> v[kMaxInterleave];
      const auto* at = from + static_cast<ptrdiff_t>(j) * from_stride;
      for (ptrdiff_t k = 0; k < from_stride; ++k) hwy::Prefetch(at + prefetch + k * lanes);
      if (from_stride == 2) {
        hn::LoadInterleaved2(d, at, v[0], v[1]);
      } else if (from_stride == 3) {
        hn::LoadInterleaved3(d, at, v[0], v[1], v[2]);
      } else {
        hn::LoadInterleaved4(d, at, v[0], v[1], v[2], v[3]);
      }
      for (size_t i = 0; i < rows; ++i) hn::StoreU(v[i], d, to + static_cast<ptrdiff_t>(i) * to_stride + j);
      if (j == last) break;
    }
    done = columns - 1;
  }
#endif
  for (size_t i = 0; i < rows; ++i) {
    copy_strided_elements(from + i, from_stride, to + static_cast<ptrdiff_t>(i) * to_stride, 1, done,
                          columns);
  }
}

template <class T>
void deinterleave(const void* from_bytes, ptrdiff_t from_stride, void* to_bytes, ptrdiff_t to_stride,
                  size_t rows, size_t columns) {
  const T* from = static_cast<const T*>(from_bytes);
  T* to = static_cast<T*>(to_bytes);
  deinterleave_rows(hn::ScalableTag<T>(), from, from_stride, to, to_stride, rows, columns);
}

// The inverse: rows become interleaved columns.
template <class T>
void interleave(const void* from_bytes, ptrdiff_t from_stride, void* to_bytes, size_t rows, size_t columns) {
  const T* from = static_cast<const T*>(from_bytes);
  T* to = static_cast<T*>(to_bytes);
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  for (; i + lanes <= rows; i += lanes) {
    hn::Vec<decltype(d)> v[kMaxInterleave];
    for (size_t j = 0; j < columns; ++j) {
      const T* at = from + static_cast<ptrdiff_t>(j) * from_stride + i;
      hwy::Prefetch(at + kPackPrefetchBytes / sizeof(T));
      v[j] = hn::LoadU(d, at);
    }
    T* sink = to + i * columns;
    if (columns == 2) {
      hn::StoreInterleaved2(v[0], v[1], d, sink);
    } else if (columns == 3) {
      hn::StoreInterleaved3(v[0], v[1], v[2], d, sink);
    } else {
      hn::StoreInterleaved4(v[0], v[1], v[2], v[3], d, sink);
    }
  }
#endif
  for (size_t j = 0; j < columns; ++j) {
    copy_strided_elements(from + static_cast<ptrdiff_t>(j) * from_stride, 1, to + j,
                          static_cast<ptrdiff_t>(columns), i, rows);
  }
}

template <class T>
void load_strided(const Segment* segments, size_t count, const void* from_bytes, ptrdiff_t stride,
                  void* to_bytes, size_t n) {
  const char* from = static_cast<const char*>(from_bytes);
  char* to = static_cast<char*>(to_bytes);
#if MSELOSS_MASKS
  if (static_cast<size_t>(stride) <= StridedLanes<T>::kMaxStride) {
    return copy_strided_masked<true>(hn::ScalableTag<T>(), segments, count, from, to,
                                     static_cast<size_t>(stride), n);
  }
#endif
  for (const Segment* p = segments; p != segments + count; ++p) {
    deinterleave<T>(from + p->from, stride, to + p->to, 0, 1, n);
  }
}

template <class T>
void store_strided(const Segment* segments, size_t count, const void* from_bytes, void* to_bytes,
                   ptrdiff_t stride, size_t n) {
  const char* from = static_cast<const char*>(from_bytes);
  char* to = static_cast<char*>(to_bytes);
#if MSELOSS_MASKS
  if (static_cast<size_t>(stride) <= StridedLanes<T>::kMaxStride) {
    return copy_strided_masked<false>(hn::ScalableTag<T>(), segments, count, from, to,
                                      static_cast<size_t>(stride), n);
  }
#endif
  for (const Segment* p = segments; p != segments + count; ++p) {
    copy_strided_elements(reinterpret_cast<const T*>(from + p->from), 1, reinterpret_cast<T*>(to + p->to),
                          stride, 0, n);
  }
}

void fill_interleave(Kernels* kernels) {
  const auto fill = [&](int index, auto element) {
    using T = decltype(element);
    kernels->deinterleave[index] = &deinterleave<T>;
    kernels->interleave[index] = &interleave<T>;
    kernels->load_strided[index] = &load_strided<T>;
    kernels->store_strided[index] = &store_strided<T>;
    constexpr ptrdiff_t kMaskedStride = MSELOSS_MASKS ? StridedLanes<T>::kMaxStride : 0;
    kernels->max_stride[index] = HWY_MAX(kMaxInterleave, kMaskedStride);
  };
  kernels->max_stride[0] = 0;
  fill(1, uint16_t());
  fill(2, uint32_t());
  fill(3, uint64_t());
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
MSELOSS_EXPORT_KERNELS(fill_interleave)
#endif
