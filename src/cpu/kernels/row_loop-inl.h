// The loop over a row that every elementwise kernel and sum shares: head, unrolled vectors, tail. Re-included
// per target.
#if defined(MSELOSS_ROW_LOOP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_ROW_LOOP_INL_H_
#undef MSELOSS_ROW_LOOP_INL_H_
#else
#define MSELOSS_ROW_LOOP_INL_H_
#endif

#include <hwy/cache_control.h>

#include <cstring>

#include "cpu/kernels/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// Compute vectors per unrolled iteration of a sum: enough to hide the latency of an addition. Storage vectors
// per unrolled iteration of the other kernels.
inline constexpr int kSumUnroll = 4, kUnroll = 4;

// The largest number of elements in a storage vector, and in an unrolled iteration.
template <class S>
inline constexpr size_t kMaxVector = S::kParts* hn::MaxLanes(hn::ScalableTag<typename S::Compute>());
template <class S>
inline constexpr size_t kMaxUnrolled = kUnroll* kMaxVector<S>;

// Prefetch distances. Half types and rows below kLongRowBytes are prefetched: hardware prefetchers restart
// with each row and, on a Xeon, left a fifth of the bandwidth of half types unused. Long rows of float32 and
// float64 are not: prefetching slows float32 in L3 by a fifth (Zen 5). Half types use the far distance unless
// they store to the caches; it makes their sums from L3 1.3 times as fast.
inline constexpr size_t kPrefetchBytes = 2048, kFarPrefetchBytes = 8192, kLongRowBytes = 16384;

// One unrolled iteration's worth of copies of a broadcast element.
template <class S>
class BroadcastVector {
 public:
  using Memory = typename S::Memory;
  HWY_INLINE const Memory* fill(const void* one) {
    Memory element;
    std::memcpy(&element, one, sizeof(element));
    const hn::CappedTag<Memory, kMaxVector<S>> d;
    for (size_t i = 0; i < kMaxUnrolled<S>; i += hn::Lanes(d)) hn::Store(hn::Set(d, element), d, copies_ + i);
    return copies_;
  }

 private:
  HWY_ALIGN Memory copies_[kMaxUnrolled<S>];
};

// One row of an input. A broadcast element is loaded repeatedly from its copies in L1, which avoids a second
// version of every kernel.
template <class S>
class RowInput {
 public:
  using Memory = typename S::Memory;

  HWY_INLINE RowInput(const void* in, bool strided, BroadcastVector<S>* copies)
      : from_(strided ? static_cast<const Memory*>(in) : copies->fill(in)), mask_(strided ? ~size_t{0} : 0) {}

  template <class D>
  HWY_INLINE auto load(D d, size_t i) const {
    return S::load(d, from_ + (i & mask_));
  }
  // A part of storage vector k of the unrolled iteration that begins at element i.
  template <size_t kPrefetch, class P, class D>
  HWY_INLINE auto load_part(P part, D d, size_t i, size_t k) const {
    const Memory* at = from_ + (i & mask_) + k * S::kParts * hn::Lanes(d);
    const bool new_line = k * S::kParts * hn::Lanes(d) * sizeof(Memory) % kLineBytes == 0;
    if (kPrefetch != 0 && P::value == 0 && new_line) hwy::Prefetch(at + kPrefetch / sizeof(Memory));
    return S::load_part(part, d, at);
  }
  // The tail: `count` elements from element i, padded with zeros.
  template <class D>
  HWY_INLINE auto load_tail(D d, size_t i, size_t count) const {
    return S::load(d, Tail(from_ + (i & mask_), count).elements);
  }
  template <class P, class D>
  HWY_INLINE auto load_tail_part(P part, D d, size_t i, size_t count) const {
    return S::load_part(part, d, Tail(from_ + (i & mask_), count).elements);
  }

 private:
  struct Tail {
    HWY_INLINE Tail(const Memory* from, size_t count) { std::memcpy(elements, from, count * sizeof(Memory)); }
    HWY_ALIGN Memory elements[kMaxVector<S>] = {};
  };

  const Memory* from_;
  size_t mask_;
};

// Row `r` of an input.
template <class S>
HWY_INLINE RowInput<S> row_input(const RowBlock& block, int input, size_t r, BroadcastVector<S>* copies) {
  const auto* first = static_cast<const typename S::Memory*>(block.at[input]);
  return RowInput<S>(first + static_cast<ptrdiff_t>(r) * block.pitch[input], block.strided[input], copies);
}

// Row `r` of the output.
template <class S>
HWY_INLINE void* output_row(const RowBlock& block, size_t r) {
  return static_cast<typename S::Memory*>(block.at[kOut]) + static_cast<ptrdiff_t>(r) * block.pitch[kOut];
}

enum class Store { kNone, kCached, kNonTemporal };

// How the ends of a row are computed.
// kRow: the last vector, and with aligned stores also the first, may overlap its neighbour, but no element
// written by a non-temporal store is written again. kShortRow: the same without unrolling, for rows of a few
// vectors. kSum: every element is visited once; head and tail pass through zero-padded buffers.
enum class Loop { kRow, kShortRow, kSum };

// The most vectors of a row that Loop::kSum visits one by one: head, tail, those that do not fill an unrolled
// iteration, and, beside non-temporal stores, those in the incomplete cache lines at both ends.
template <class S, Store kStore>
inline constexpr size_t kSumSingles =
    2 + kSumUnroll / S::kParts - 1 +
    (kStore == Store::kNonTemporal ? 2 * (kLineBytes / (kMaxVector<S> * sizeof(typename S::Memory)) - 1) : 0);

// Calls f(k, load) for each compute vector of a row, where load(input) returns the vector of that RowInput
// and the constant k is the vector's index in the unrolled iteration, and stores what f returns.
template <class S, Store kStore, Loop kLoop, class D, class F>
HWY_INLINE void transform_row(D d, void* to, size_t n, const F& f) {
  using Memory = typename S::Memory;
  using V = hn::Vec<D>;
  const size_t vector = S::kParts * hn::Lanes(d);
  Memory* out = static_cast<Memory*>(to);

  // The parts of one storage vector; k is the index of the first.
  const auto compute = [&]<int k>(Index<k>, V* v, const auto& load) MSELOSS_INLINE {
    unrolled<S::kParts>([&]<int part>(Index<part>) MSELOSS_INLINE {
      v[part] =
          f(Index<k + part>(), [&](const auto& input) MSELOSS_INLINE { return load(Index<part>(), input); });
    });
  };
  const auto compute_vector = [&](V* v, size_t i) MSELOSS_INLINE {
    compute(Index<0>(), v, [&](auto part, const auto& input) MSELOSS_INLINE {
      return input.template load_part<0>(part, d, i, 0);
    });
  };
  const auto process_vectors = [&]<int kPrefetch, int kCount, bool kNonTemporal>(
                                   Index<kPrefetch>, Index<kCount>, std::bool_constant<kNonTemporal>,
                                   size_t i) MSELOSS_INLINE {
    V v[kCount * S::kParts];
    unrolled<kCount>([&]<int k>(Index<k>) MSELOSS_INLINE {
      compute(Index<k * S::kParts>(), v + k * S::kParts, [&](auto part, const auto& input) MSELOSS_INLINE {
        return input.template load_part<kPrefetch>(part, d, i, k);
      });
    });
    if constexpr (kStore == Store::kNone) return;
    unrolled<kCount>([&]<int k>(Index<k>) MSELOSS_INLINE {
      S::template store_parts<kNonTemporal>(d, v + k * S::kParts, out + i + k * vector);
    });
  };
  // Stores `count` elements of a vector, beginning with its element `from`, at element i.
  const auto store_some = [&](const V* v, size_t i, size_t from, size_t count) MSELOSS_INLINE {
    HWY_ALIGN Memory buffer[kMaxVector<S>];
    S::template store_parts<false>(d, v, buffer);
    std::memcpy(out + i, buffer + from, count * sizeof(Memory));
  };
  const auto tail = [&](size_t i, size_t count) MSELOSS_INLINE {
    V v[S::kParts];
    compute(Index<0>(), v, [&](auto part, const auto& input) MSELOSS_INLINE {
      return input.load_tail_part(part, d, i, count);
    });
    if constexpr (kStore != Store::kNone) store_some(v, i, 0, count);
  };

  // The head: elements before the first aligned vector. Non-temporal stores need alignment; long rows of
  // other stores are faster with it.
  size_t head = 0;
  if (kStore == Store::kNonTemporal ||
      (kStore == Store::kCached && kLoop != Loop::kShortRow && n >= 16 * vector)) {
    const size_t past = reinterpret_cast<uintptr_t>(out) / sizeof(Memory) % vector;
    head = HWY_MIN(n, (vector - past) % vector);
  }
  constexpr Index<kLoop == Loop::kSum ? kSumUnroll / S::kParts : kUnroll> kIteration;
  const bool overlap = kLoop != Loop::kSum && n >= vector;
  // Head and tail are computed before anything is stored: the stores may overwrite their inputs.
  V first[S::kParts] = {}, last[S::kParts] = {};
  const bool has_last = overlap && (n - head) % vector != 0;
  if (overlap) {
    if (head != 0) compute_vector(first, 0);
    if (has_last) compute_vector(last, n - vector);
  } else if (head != 0) {
    tail(0, head);
  }
  size_t i = head;
  const auto full_vectors = [&](auto prefetch) MSELOSS_INLINE {
    constexpr std::bool_constant<kStore == Store::kNonTemporal> kNonTemporal;
    constexpr std::false_type kCached;
    size_t lines_end = n;
    if constexpr (kNonTemporal) {
      // Only full cache lines get non-temporal stores: a line written half by them and half through the
      // caches costs half a microsecond.
      constexpr size_t kLine = kLineBytes / sizeof(Memory);
      const size_t past = reinterpret_cast<uintptr_t>(out) / sizeof(Memory) % kLine;
      const size_t lines_begin = (kLine - past) % kLine;
      lines_end = n - HWY_MIN(n, (past + n) % kLine);
      for (; i < lines_begin && i + vector <= n; i += vector)
        process_vectors(prefetch, Index<1>(), kCached, i);
    }
    if constexpr (kLoop != Loop::kShortRow) {
      for (; i + kIteration * vector <= lines_end; i += kIteration * vector) {
        process_vectors(prefetch, kIteration, kNonTemporal, i);
      }
    }
    for (; i + vector <= lines_end; i += vector) process_vectors(prefetch, Index<1>(), kNonTemporal, i);
    if constexpr (kNonTemporal) {
      for (; i + vector <= n; i += vector) process_vectors(prefetch, Index<1>(), kCached, i);
    }
  };
  constexpr bool kHalf = sizeof(Memory) < sizeof(typename S::Compute);
  constexpr Index<kHalf && kStore != Store::kCached ? kFarPrefetchBytes : kPrefetchBytes> kPrefetch;
  if (!kHalf && kLoop != Loop::kShortRow && n * sizeof(Memory) >= kLongRowBytes) {
    full_vectors(Index<0>());
  } else {
    full_vectors(kPrefetch);
  }
  if constexpr (kStore == Store::kNonTemporal) {
    if (overlap) {
      const size_t rest = (n - head) % vector;
      if (head != 0) store_some(first, 0, 0, head);
      if (has_last) store_some(last, n - rest, vector - rest, rest);
      return;
    }
  } else if constexpr (kStore == Store::kCached) {
    if (overlap) {
      if (head != 0) S::template store_parts<false>(d, first, out);
      if (has_last) S::template store_parts<false>(d, last, out + n - vector);
      return;
    }
  }
  if (i < n) tail(i, n - i);
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_ROW_LOOP_INL_H_
