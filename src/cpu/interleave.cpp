// Rows whose elements lie closely among those of others, on one side of a copy: bits are moved, so only the
// element size matters.
#include "cpu/targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/interleave.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <array>
#include <cstring>

#include "cpu/kernels.h"

#ifndef MSELOSS_INTERLEAVE_CPP_
#define MSELOSS_INTERLEAVE_CPP_
namespace mseloss::cpu {

// Elements of a row in a vector of 64 bytes, one at every second, third, ... lane.
template <class T>
struct Spaced {
  static constexpr size_t kLanes = 64 / sizeof(T), kMost = kLanes / 4;  // strides; fewer elements do not pay

  size_t each = 0;                  // so many
  uint8_t places[8] = {};           // a bit for each lane that has one
  alignas(64) T take[kLanes] = {};  // each lane's source: from those lanes to the first ones
  alignas(64) T give[kLanes] = {};  // and back
};

template <class T>
constexpr std::array<Spaced<T>, Spaced<T>::kMost + 1> spaced_tables() {
  std::array<Spaced<T>, Spaced<T>::kMost + 1> all;
  for (size_t stride = 2; stride < all.size(); ++stride) {
    Spaced<T>& spaced = all[stride];
    spaced.each = spaced.kLanes / stride;
    for (size_t i = 0; i < spaced.each; ++i) spaced.places[i * stride / 8] |= 1 << i * stride % 8;
    for (size_t i = 0; i < spaced.kLanes; ++i) {
      spaced.take[i] = static_cast<T>(i * stride % spaced.kLanes);
      spaced.give[i] = static_cast<T>(i / stride);
    }
  }
  return all;
}
template <class T>
inline constexpr auto kSpaced = spaced_tables<T>();

}  // namespace mseloss::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#undef MSELOSS_MASKS  // loads and stores of some elements of a vector, which leave the others alone
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
#define MSELOSS_MASKS 1
#else
#define MSELOSS_MASKS 0
#endif

constexpr size_t kInterleavedAhead = 8192;  // bytes

// Bytes to ask for ahead of a row of so many: behind a long one comes, most often, what the next box wants.
constexpr size_t ahead_of(size_t bytes) {
  return bytes < kInterleavedAhead ? kInterleavedAhead / 4 : kInterleavedAhead;
}

// What to ask for while a piece of so many bytes is moved: the same of a later piece, or behind this one.
class Ahead {
 public:
  explicit Ahead(size_t bytes)
      : pieces_(static_cast<ptrdiff_t>(kInterleavedAhead / bytes) + 1),
        bytes_(static_cast<ptrdiff_t>(ahead_of(bytes))) {}
  HWY_INLINE ptrdiff_t of(const Piece* p, const Piece* end, ptrdiff_t Piece::*side) const {
    return end - p > pieces_ ? p[pieces_].*side : p->*side + bytes_;
  }

 private:
  ptrdiff_t pieces_, bytes_;
};

// to[i * to_stride] = from[i * from_stride], i from `first` on.
template <class T>
HWY_INLINE void move_elements(const T* from, ptrdiff_t from_stride, T* to, ptrdiff_t to_stride, size_t first,
                              size_t n) {
  for (size_t i = first; i < n; ++i) {
    // No alignment is assumed.
    std::memcpy(to + static_cast<ptrdiff_t>(i) * to_stride, from + static_cast<ptrdiff_t>(i) * from_stride,
                sizeof(T));
  }
}

#if MSELOSS_MASKS
// The lanes of v that index[] names; Highway 1.0.3 has it for longer lanes only.
template <class D>
HWY_INLINE hn::Vec<D> lookup(D d, hn::Vec<D> v, const hn::TFromD<D>* index) {
  if constexpr (sizeof(hn::TFromD<D>) == 2) {
    return hn::Vec<D>{_mm512_permutexvar_epi16(hn::Load(d, index).raw, v.raw)};
  } else {
    return hn::TableLookupLanes(v, hn::IndicesFromVec(d, hn::Load(d, index)));
  }
}

// How a row of n elements is covered by vectors of `each`, the last of `rest`: the lanes that have them where
// they are spaced, and where they are dense.
template <class D>
struct Cover {
  const Spaced<hn::TFromD<D>>& table;
  size_t whole, rest;
  hn::Mask<D> spaced, rest_spaced, dense, rest_dense;

  HWY_INLINE Cover(D d, size_t stride, size_t n)
      : table(kSpaced<hn::TFromD<D>>[stride]),
        whole((n - 1) / table.each * table.each),
        rest(n - whole),
        spaced(hn::LoadMaskBits(d, table.places)),
        rest_spaced(hn::And(spaced, hn::FirstN(d, (rest - 1) * stride + 1))),
        dense(hn::FirstN(d, table.each)),
        rest_dense(hn::FirstN(d, rest)) {}
};

// Calls f(i, spaced, dense) for each vector of a row, from element i on.
template <class D, class F>
HWY_INLINE void for_each_vector(const Cover<D>& cover, const F& f) {
  for (size_t i = 0; i < cover.whole; i += cover.table.each) f(i, cover.spaced, cover.dense);
  f(cover.whole, cover.rest_spaced, cover.rest_dense);
}

template <class D>
HWY_INLINE void take_by_masks(D d, const Piece* pieces, size_t count, const char* from, size_t stride,
                              char* to, size_t n) {
  using T = hn::TFromD<D>;
  const Cover<D> cover(d, stride, n);
  const Ahead ahead(n * stride * sizeof(T));
  for (const Piece* p = pieces; p != pieces + count; ++p) {
    const T* a = reinterpret_cast<const T*>(from + p->from);
    T* b = reinterpret_cast<T*>(to + p->to);
    const T* later = reinterpret_cast<const T*>(from + ahead.of(p, pieces + count, &Piece::from));
    for_each_vector(cover, [&](size_t i, auto spaced, auto dense) MSELOSS_INLINE {
      hwy::Prefetch(later + i * stride);
      const auto v = hn::MaskedLoad(spaced, d, a + i * stride);
      hn::BlendedStore(lookup(d, v, cover.table.take), dense, d, b + i);
    });
  }
}

template <class D>
HWY_INLINE void give_by_masks(D d, const Piece* pieces, size_t count, const char* from, char* to,
                              size_t stride, size_t n) {
  using T = hn::TFromD<D>;
  const Cover<D> cover(d, stride, n);
  const Ahead ahead(n * stride * sizeof(T));
  for (const Piece* p = pieces; p != pieces + count; ++p) {
    const T* a = reinterpret_cast<const T*>(from + p->from);
    T* b = reinterpret_cast<T*>(to + p->to);
    const T* later = reinterpret_cast<const T*>(to + ahead.of(p, pieces + count, &Piece::to));
    for_each_vector(cover, [&](size_t i, auto spaced, auto dense) MSELOSS_INLINE {
      hwy::Prefetch(later + i * stride);  // a store by a mask to a line that is not cached is slow
      const auto v = hn::MaskedLoad(dense, d, a + i);
      hn::BlendedStore(lookup(d, v, cover.table.give), spaced, d, b + i * stride);
    });
  }
}
#endif

// Rows [0, rows) of `columns` interleaved ones, by loads that take them apart.
template <class D>
HWY_INLINE void deinterleave([[maybe_unused]] D d, const hn::TFromD<D>* from, ptrdiff_t from_stride,
                             hn::TFromD<D>* to, ptrdiff_t to_stride, size_t rows, size_t columns) {
  size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  const size_t lanes = hn::Lanes(d);
  if (columns <= lanes) {
    if constexpr (hn::MaxLanes(d) * sizeof(*from) > 16) {
      return deinterleave(hn::Half<D>(), from, from_stride, to, to_stride, rows, columns);
    }
  } else {
    const size_t ahead = ahead_of(columns * static_cast<size_t>(from_stride) * sizeof(*from)) / sizeof(*from);
    // The last column is left out: behind it there may be nothing to load.
    for (size_t j = 0, last = columns - 1 - lanes;; j = HWY_MIN(j + lanes, last)) {
      hn::Vec<D> v[kMaxSplit];
      const auto* at = from + static_cast<ptrdiff_t>(j) * from_stride;
      for (ptrdiff_t k = 0; k < from_stride; ++k) hwy::Prefetch(at + ahead + k * lanes);
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
    move_elements(from + i, from_stride, to + static_cast<ptrdiff_t>(i) * to_stride, 1, done, columns);
  }
}

template <class T>
void split(const void* from_bytes, ptrdiff_t from_stride, void* to_bytes, ptrdiff_t to_stride, size_t rows,
           size_t columns) {
  const T* from = static_cast<const T*>(from_bytes);
  T* to = static_cast<T*>(to_bytes);
  deinterleave(hn::ScalableTag<T>(), from, from_stride, to, to_stride, rows, columns);
}

// The other way round: rows become closely interleaved columns.
template <class T>
void merge(const void* from_bytes, ptrdiff_t from_stride, void* to_bytes, size_t rows, size_t columns) {
  const T* from = static_cast<const T*>(from_bytes);
  T* to = static_cast<T*>(to_bytes);
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  for (; i + lanes <= rows; i += lanes) {
    hn::Vec<decltype(d)> v[kMaxSplit];
    for (size_t j = 0; j < columns; ++j) {
      const T* at = from + static_cast<ptrdiff_t>(j) * from_stride + i;
      hwy::Prefetch(at + kInterleavedAhead / sizeof(T));
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
    move_elements(from + static_cast<ptrdiff_t>(j) * from_stride, 1, to + j, static_cast<ptrdiff_t>(columns),
                  i, rows);
  }
}

template <class T>
void take(const Piece* pieces, size_t count, const void* from_bytes, ptrdiff_t stride, void* to_bytes,
          size_t n) {
  const char* from = static_cast<const char*>(from_bytes);
  char* to = static_cast<char*>(to_bytes);
#if MSELOSS_MASKS
  if (static_cast<size_t>(stride) <= Spaced<T>::kMost) {
    return take_by_masks(hn::ScalableTag<T>(), pieces, count, from, static_cast<size_t>(stride), to, n);
  }
#endif
  for (const Piece* p = pieces; p != pieces + count; ++p) {
    split<T>(from + p->from, stride, to + p->to, 0, 1, n);
  }
}

template <class T>
void give(const Piece* pieces, size_t count, const void* from_bytes, void* to_bytes, ptrdiff_t stride,
          size_t n) {
  const char* from = static_cast<const char*>(from_bytes);
  char* to = static_cast<char*>(to_bytes);
#if MSELOSS_MASKS
  if (static_cast<size_t>(stride) <= Spaced<T>::kMost) {
    return give_by_masks(hn::ScalableTag<T>(), pieces, count, from, to, static_cast<size_t>(stride), n);
  }
#endif
  for (const Piece* p = pieces; p != pieces + count; ++p) {
    move_elements(reinterpret_cast<const T*>(from + p->from), 1, reinterpret_cast<T*>(to + p->to), stride, 0,
                  n);
  }
}

void fill_interleave(Kernels* kernels) {
  const auto fill = [&](int log2, auto element) {
    using T = decltype(element);
    kernels->split[log2] = &split<T>;
    kernels->merge[log2] = &merge<T>;
    kernels->take[log2] = &take<T>;
    kernels->give[log2] = &give<T>;
    constexpr ptrdiff_t kByMasks = MSELOSS_MASKS ? Spaced<T>::kMost : 0;
    kernels->most_stride[log2] = HWY_MAX(kMaxSplit, kByMasks);
  };
  fill(0, uint16_t());
  fill(1, uint32_t());
  fill(2, uint64_t());
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mseloss::cpu {
HWY_EXPORT(fill_interleave);
void fill_interleave_kernels(Kernels* kernels, size_t target) {
  HWY_DISPATCH_TABLE(fill_interleave)[target](kernels);
}
}  // namespace mseloss::cpu
#endif
