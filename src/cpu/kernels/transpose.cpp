// Transposition between an operand and a packed tile. It moves bits, so only the element size matters.
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/transpose.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "cpu/kernels/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// to[i * to_stride + j] = from[j * from_stride + i], i < rows, first_column <= j < columns.
template <class T>
HWY_INLINE void transpose_elements(const T* from, ptrdiff_t from_stride, T* to, ptrdiff_t to_stride,
                                   size_t rows, size_t first_column, size_t columns) {
  for (size_t j = first_column; j < columns; ++j) {
    for (size_t i = 0; i < rows; ++i) {
      // No alignment is assumed.
      std::memcpy(to + static_cast<ptrdiff_t>(i) * to_stride + j,
                  from + static_cast<ptrdiff_t>(j) * from_stride + i, sizeof(T));
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
// Loads one 128-bit block from each of the rows from, from + stride, ...
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

// to[i * to_stride + j] = from[j * from_stride + i] for the first `rows` i of a block and a vector of j:
// loads blocks of columns side by side, then applies one perfect shuffle for each bit of the index.
template <bool kNonTemporal = false, class D>
HWY_INLINE void transpose_panel(D d, const hn::TFromD<D>* from, ptrdiff_t from_stride, hn::TFromD<D>* to,
                                ptrdiff_t to_stride, size_t rows) {
  constexpr size_t kBlock = 16 / sizeof(hn::TFromD<D>);
  hn::Vec<D> v[kBlock], next[kBlock];
  for (size_t k = 0; k < kBlock; ++k) {
    v[k] = load_blocks(d, from + static_cast<ptrdiff_t>(k) * from_stride,
                       static_cast<ptrdiff_t>(kBlock) * from_stride);
  }
  for (size_t step = 1; step < kBlock; step *= 2) {
    for (size_t k = 0; k < kBlock / 2; ++k) {
      next[2 * k] = hn::InterleaveLower(d, v[k], v[k + kBlock / 2]);
      next[2 * k + 1] = hn::InterleaveUpper(d, v[k], v[k + kBlock / 2]);
    }
    for (size_t k = 0; k < kBlock; ++k) v[k] = next[k];
  }
  for (size_t i = 0; i < kBlock; ++i) {
    if (i >= rows) continue;  // not break: the loop is unrolled only with a constant number of iterations
    if constexpr (kNonTemporal) {
      hn::Stream(v[i], d, to + static_cast<ptrdiff_t>(i) * to_stride);
    } else {
      hn::StoreU(v[i], d, to + static_cast<ptrdiff_t>(i) * to_stride);
    }
  }
}

// Rows of a column copied to the staging buffer at a time.
template <class T>
constexpr size_t kStage = 256 / sizeof(T);

// Transposes all rows (at least kStage) of a vector of columns. Columns whose stride is a power of two share
// few cache sets and would be evicted between one block of rows and the next, so full cache lines are staged
// first.
template <class D>
HWY_INLINE void stage_and_transpose(D d, const hn::TFromD<D>* from, ptrdiff_t from_stride, hn::TFromD<D>* to,
                                    ptrdiff_t to_stride, size_t rows) {
  using T = hn::TFromD<D>;
  constexpr size_t kBlock = 16 / sizeof(T), kPitch = kStage<T> + kLineBytes / sizeof(T);
  HWY_ALIGN T stage[hn::MaxLanes(D()) * kPitch];
  const hn::CappedTag<T, kStage<T>> wide;
  for (size_t first = 0, last = rows - kStage<T>;; first = HWY_MIN(first + kStage<T>, last)) {
    for (size_t j = 0; j < hn::Lanes(d); ++j) {
      const T* column = from + static_cast<ptrdiff_t>(j) * from_stride + first;
      for (size_t i = 0; i < kStage<T>; i += hn::Lanes(wide))
        hn::Store(hn::LoadU(wide, column + i), wide, stage + j * kPitch + i);
    }
    for (size_t i = 0; i < kStage<T>; i += kBlock) {
      transpose_panel(d, stage + i, kPitch, to + static_cast<ptrdiff_t>(first + i) * to_stride, to_stride,
                      kBlock);
    }
    if (first == last) return;
  }
}

template <class D, class F>
HWY_INLINE void with_lanes(D d, size_t lanes, const F& f) {
  if constexpr (hn::MaxLanes(d) * sizeof(hn::TFromD<D>) > 16) {
    if (lanes < hn::Lanes(d)) return with_lanes(hn::Half<D>(), lanes, f);
  }
  f(d);
}

// Divides the columns (at least a 16-byte block of them) into panels and calls f(tag, j) for each: a panel
// consists of Lanes(tag) columns from column j, where tag is d or a narrower one. The last panel is as narrow
// as possible and may overlap its predecessor.
template <class D, class F>
HWY_INLINE void for_each_panel(D d, size_t columns, const F& f) {
  constexpr size_t kBlock = 16 / sizeof(hn::TFromD<D>);
  size_t lanes = hn::Lanes(d);
  while (lanes > columns) lanes /= 2;
  for (size_t j = 0; j < columns; j += lanes) {
    while (lanes > kBlock && columns - j <= lanes / 2) lanes /= 2;
    j = HWY_MIN(j, columns - lanes);
    with_lanes(d, lanes, [&](auto part) MSELOSS_INLINE { f(part, j); });
  }
}

// Transposes rows x columns elements, at least a block of columns, in panels; the last panel in each
// direction may overlap the one before. Reads a full block even of fewer rows: the memory past them must be
// readable. `next` is the start of the next segment, which has the same shape.
template <class D>
HWY_INLINE void transpose_panels(D d, const hn::TFromD<D>* from, ptrdiff_t from_stride, hn::TFromD<D>* to,
                                 ptrdiff_t to_stride, size_t rows, size_t columns, const hn::TFromD<D>* next,
                                 Direction direction) {
  using T = hn::TFromD<D>;
  constexpr size_t kBlock = 16 / sizeof(T);
  const size_t lanes = hn::Lanes(d), last_i = rows < kBlock ? 0 : rows - kBlock;
  // Row by row, full cache lines of the destination at a time, if it has the longer stride or non-temporal
  // stores.
  if (direction == Direction::kUnpackNonTemporal || to_stride > std::abs(from_stride)) {
    const auto by_rows = [&](auto non_temporal) MSELOSS_INLINE {
      for (size_t i = 0;; i = HWY_MIN(i + kBlock, last_i)) {
        for_each_panel(d, columns, [&](auto part, size_t j) MSELOSS_INLINE {
          if (direction == Direction::kPack && i % (kLineBytes / sizeof(T)) == 0) {
            for (size_t k = 0; k < hn::Lanes(part); ++k) {
              __builtin_prefetch(from + static_cast<ptrdiff_t>(j + k) * from_stride + i +
                                 kPackPrefetchBytes / sizeof(T));
            }
          }
          transpose_panel<decltype(non_temporal)::value>(
              part, from + static_cast<ptrdiff_t>(j) * from_stride + i, from_stride,
              to + static_cast<ptrdiff_t>(i) * to_stride + j, to_stride, HWY_MIN(rows, kBlock));
        });
        if (i == last_i) return;
      }
    };
    const bool lines = columns * sizeof(T) % kLineBytes == 0 && to_stride * sizeof(T) % kLineBytes == 0 &&
                       reinterpret_cast<uintptr_t>(to) % kLineBytes == 0;
    return direction == Direction::kUnpackNonTemporal && lines ? by_rows(std::true_type())
                                                               : by_rows(std::false_type());
  }
  const size_t prefetch =
      HWY_MIN(HWY_MAX(lanes, kPackPrefetchBytes / (rows * sizeof(T)) / lanes * lanes), columns);
  for_each_panel(d, columns, [&](auto part, size_t j) MSELOSS_INLINE {
    const auto* column = from + static_cast<ptrdiff_t>(j) * from_stride;
    // The hardware prefetchers do not follow this pattern. Into L2: in L1, columns whose stride is a power of
    // two would evict each other.
    for (size_t k = j + prefetch; k < j + prefetch + hn::Lanes(part); ++k) {
      const T* later = k < columns ? from + static_cast<ptrdiff_t>(k) * from_stride
                                   : next + static_cast<ptrdiff_t>(k - columns) * from_stride;
      for (size_t i = 0; i < rows; i += kLineBytes / sizeof(T)) __builtin_prefetch(later + i, 0, 2);
    }
    if (rows < kStage<T>) {
      for (size_t i = 0;; i = HWY_MIN(i + kBlock, last_i)) {
        transpose_panel(part, column + i, from_stride, to + static_cast<ptrdiff_t>(i) * to_stride + j,
                        to_stride, HWY_MIN(rows, kBlock));
        if (i == last_i) break;
      }
    } else {
      stage_and_transpose(part, column, from_stride, to + j, to_stride, rows);
    }
  });
}

// Transposes fewer columns than a block: each row is stored from a buffer by two copies of kHalf bytes, which
// may overlap.
template <size_t kHalf, class D>
HWY_INLINE void transpose_narrow(D block, const hn::TFromD<D>* from, ptrdiff_t from_stride, hn::TFromD<D>* to,
                                 ptrdiff_t to_stride, size_t rows, size_t columns) {
  using T = hn::TFromD<D>;
  constexpr size_t kBlock = 16 / sizeof(T);
  for (size_t i = 0, last = rows < kBlock ? 0 : rows - kBlock;; i = HWY_MIN(i + kBlock, last)) {
    HWY_ALIGN T in[kBlock * kBlock], out[kBlock * kBlock];
    for (size_t j = 0; j < columns; ++j) {
      hn::Store(hn::LoadU(block, from + static_cast<ptrdiff_t>(j) * from_stride + i), block, in + j * kBlock);
    }
    transpose_panel(block, in, kBlock, out, kBlock, kBlock);
    for (size_t k = 0; k < HWY_MIN(rows, kBlock); ++k) {
      T* row = to + static_cast<ptrdiff_t>(i + k) * to_stride;
      const T* source = out + k * kBlock;
      std::memcpy(row, source, kHalf);
      std::memcpy(row + columns - kHalf / sizeof(T), source + columns - kHalf / sizeof(T), kHalf);
    }
    if (i == last) return;
  }
}
#endif

template <class T>
HWY_INLINE void transpose_segment(const T* from, ptrdiff_t from_stride, T* to, ptrdiff_t to_stride,
                                  size_t rows, size_t columns, const T* next, const T* from_end,
                                  Direction direction) {
  size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  constexpr size_t kBlock = 16 / sizeof(T);
  size_t whole = columns;  // columns of which a full block of rows is readable
  if (rows < kBlock) {
    const ptrdiff_t room = from_end - from - static_cast<ptrdiff_t>(kBlock);
    const ptrdiff_t last = static_cast<ptrdiff_t>(columns - 1) * from_stride;
    if (room < HWY_MAX(last, 0)) whole = room < 0 || from_stride <= 0 ? 0 : room / from_stride + 1;
  }
  if (whole >= kBlock) {
    transpose_panels(hn::ScalableTag<T>(), from, from_stride, to, to_stride, rows, whole, next, direction);
    done = whole;
  } else if (whole > 1 && whole * sizeof(T) >= 4 && rows >= 4) {
    const hn::FixedTag<T, kBlock> block;
    if (whole * sizeof(T) >= 8) {
      transpose_narrow<8>(block, from, from_stride, to, to_stride, rows, whole);
    } else {
      transpose_narrow<4>(block, from, from_stride, to, to_stride, rows, whole);
    }
    done = whole;
  }
#else
  (void)next, (void)from_end, (void)direction;
#endif
  transpose_elements(from, from_stride, to, to_stride, rows, done, columns);
}

template <class T>
void transpose(const Segment* segments, size_t count, const void* from, ptrdiff_t from_stride, void* to,
               ptrdiff_t to_stride, size_t rows, size_t columns, const void* from_end, Direction direction) {
  const auto source = [&](const Segment* p) HWY_ATTR {
    return reinterpret_cast<const T*>(static_cast<const char*>(from) + p->from);
  };
  for (const Segment* p = segments; p != segments + count; ++p) {
    transpose_segment(source(p), from_stride, reinterpret_cast<T*>(static_cast<char*>(to) + p->to), to_stride,
                      rows, columns, source(p + 1 == segments + count ? p : p + 1),
                      static_cast<const T*>(from_end), direction);
  }
}

void fill_transpose(Kernels* kernels) {
  kernels->transpose[0] = &transpose<uint8_t>;
  kernels->transpose[1] = &transpose<uint16_t>;
  kernels->transpose[2] = &transpose<uint32_t>;
  kernels->transpose[3] = &transpose<uint64_t>;
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
MSELOSS_EXPORT_KERNELS(fill_transpose)
#endif
