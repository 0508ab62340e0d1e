// The loop that every kernel of a run is: whole packs, and ends that go through a buffer. Re-included per
// target.
#if defined(MSELOSS_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_ROWS_INL_H_
#undef MSELOSS_ROWS_INL_H_
#else
#define MSELOSS_ROWS_INL_H_
#endif

#include <hwy/cache_control.h>

#include <cstring>

#include "cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// Compute vectors a round of a sum: enough to hide the latency of an addition. And packs a round of others.
inline constexpr int kVectors = 4, kPacks = 4;

// The largest number of elements in a pack, and in a round.
template <class S>
inline constexpr size_t kMaxPack = S::kPack* hn::MaxLanes(hn::ScalableTag<typename S::Compute>());
template <class S>
inline constexpr size_t kMaxRound = kPacks* kMaxPack<S>;

// How far ahead of its loads a sweep asks for memory, of half types and of shorter rows: a Xeon's own
// prefetchers alone left a fifth of half types' bandwidth unused, and any start anew with each row. In long
// rows of other types they do better alone: float32 from L3 takes a Zen 5 a fifth longer with it. Half types
// look further ahead where no stores to the caches are in the way: sums from L3 are 1.3 times as fast for it.
inline constexpr size_t kAheadBytes = 2048, kFarAheadBytes = 8192, kLongRowBytes = 16384;

// A round of the one element that stands for all of an input.
template <class S>
class Copies {
 public:
  using Memory = typename S::Memory;
  HWY_INLINE const Memory* fill(const void* one) {
    Memory element;
    std::memcpy(&element, one, sizeof(element));
    const hn::CappedTag<Memory, kMaxPack<S>> d;
    for (size_t i = 0; i < kMaxRound<S>; i += hn::Lanes(d)) hn::Store(hn::Set(d, element), d, copies_ + i);
    return copies_;
  }

 private:
  HWY_ALIGN Memory copies_[kMaxRound<S>];
};

// An input of a row. Copies of an element that stands for all are a round which the loop never leaves: a load
// that hits L1 costs less than a second version of every kernel.
template <class S>
class Source {
 public:
  using Memory = typename S::Memory;

  HWY_INLINE Source(const void* in, bool moves, Copies<S>* copies)
      : from_(moves ? static_cast<const Memory*>(in) : copies->fill(in)), mask_(moves ? ~size_t{0} : 0) {}

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, size_t i) const {
    return S::load(d, from_ + (i & mask_));
  }
  // A part of pack k of the round that begins at element i.
  template <size_t kAhead, class P, class D>
  HWY_INLINE hn::Vec<D> load_pack(P part, D d, size_t i, size_t k) const {
    const Memory* at = from_ + (i & mask_) + k * S::kPack * hn::Lanes(d);
    const bool new_line = k * S::kPack * hn::Lanes(d) * sizeof(Memory) % 64 == 0;
    if (kAhead != 0 && P::value == 0 && new_line) hwy::Prefetch(at + kAhead / sizeof(Memory));
    return S::load_pack(part, d, at);
  }
  // `count` elements from element i on, and zeros behind them.
  template <class D>
  HWY_INLINE hn::Vec<D> load_end(D d, size_t i, size_t count) const {
    HWY_ALIGN Memory end[kMaxPack<S>] = {};
    std::memcpy(end, from_ + (i & mask_), count * sizeof(Memory));
    return S::load(d, end);
  }
  template <class P, class D>
  HWY_INLINE hn::Vec<D> load_end_pack(P part, D d, size_t i, size_t count) const {
    HWY_ALIGN Memory end[kMaxPack<S>] = {};
    std::memcpy(end, from_ + (i & mask_), count * sizeof(Memory));
    return S::load_pack(part, d, end);
  }

 private:
  const Memory* from_;
  size_t mask_;
};

// Row `r` of an input.
template <class S>
HWY_INLINE Source<S> source_of(const Rows& rows, int input, size_t r, Copies<S>* copies) {
  const auto* first = static_cast<const typename S::Memory*>(rows.in[input]);
  return Source<S>(first + static_cast<ptrdiff_t>(r) * rows.in_pitch[input], rows.moves[input], copies);
}

enum class Store { kNone, kCached, kStreaming };

// Calls f(k, from) for each compute vector of a row, where from(source) is that source's part of it and k, a
// constant, its place in the round, and stores what f returns. With kOnce every element is seen once, and the
// ends of the row go through buffers, in which zeros follow; else the last whole pack, and before aligned
// stores the first, may overlap others, though nothing is stored over what has been streamed.
template <class S, Store kStore, bool kOnce, class D, class F>
HWY_INLINE void sweep(D d, void* to, size_t n, const F& f) {
  using Memory = typename S::Memory;
  using V = hn::Vec<D>;
  const size_t pack = S::kPack * hn::Lanes(d);
  Memory* out = static_cast<Memory*>(to);

  // One pack from `load`; k is the place of its first vector.
  const auto compute = [&]<int k>(Part<k>, V* v, const auto& load) MSELOSS_INLINE {
    unrolled<S::kPack>([&]<int part>(Part<part>) MSELOSS_INLINE {
      v[part] =
          f(Part<k + part>(), [&](const auto& source) MSELOSS_INLINE { return load(Part<part>(), source); });
    });
  };
  const auto one = [&](V* v, size_t i) MSELOSS_INLINE {
    compute(Part<0>(), v, [&](auto part, const auto& source) MSELOSS_INLINE {
      return source.template load_pack<0>(part, d, i, 0);
    });
  };
  const auto packs = [&]<int kAhead, int kCount, bool kStreams>(
                         Part<kAhead>, Part<kCount>, std::bool_constant<kStreams>, size_t i) MSELOSS_INLINE {
    V v[kCount * S::kPack];
    unrolled<kCount>([&]<int k>(Part<k>) MSELOSS_INLINE {
      compute(Part<k * S::kPack>(), v + k * S::kPack, [&](auto part, const auto& source) MSELOSS_INLINE {
        return source.template load_pack<kAhead>(part, d, i, k);
      });
    });
    if constexpr (kStore == Store::kNone) return;
    unrolled<kCount>([&]<int k>(Part<k>) MSELOSS_INLINE {
      S::template store_pack<kStreams>(d, v + k * S::kPack, out + i + k * pack);
    });
  };
  // `count` elements of a pack, the first of which is its own number `from`, to element i on.
  const auto store_some = [&](const V* v, size_t i, size_t from, size_t count) MSELOSS_INLINE {
    HWY_ALIGN Memory buffer[kMaxPack<S>];
    S::template store_pack<false>(d, v, buffer);
    std::memcpy(out + i, buffer + from, count * sizeof(Memory));
  };
  const auto end = [&](size_t i, size_t count) MSELOSS_INLINE {
    V v[S::kPack];
    compute(Part<0>(), v, [&](auto part, const auto& source) MSELOSS_INLINE {
      return source.load_end_pack(part, d, i, count);
    });
    if constexpr (kStore != Store::kNone) store_some(v, i, 0, count);
  };

  // Elements before the first whole pack at an aligned address. Streaming needs it; a long row of other
  // stores is faster for it.
  size_t head = 0;
  if (kStore == Store::kStreaming || (kStore == Store::kCached && n >= 16 * pack)) {
    const size_t past = reinterpret_cast<uintptr_t>(out) / sizeof(Memory) % pack;
    head = HWY_MIN(n, (pack - past) % pack);
  }
  constexpr Part<kOnce ? kVectors / S::kPack : kPacks> kRound;
  const bool by_packs = !kOnce && n >= pack;
  // Both ends are computed before anything is stored, which may be over their own inputs.
  V first[S::kPack] = {}, last[S::kPack] = {};
  const bool has_last = by_packs && (n - head) % pack != 0;
  if (by_packs) {
    if (head != 0) one(first, 0);
    if (has_last) one(last, n - pack);
  } else if (head != 0) {
    end(0, head);
  }
  size_t i = head;
  const auto whole_packs = [&](auto distance) MSELOSS_INLINE {
    constexpr std::bool_constant<kStore == Store::kStreaming> kStreams;
    constexpr std::false_type kCached;
    size_t lines_end = n;
    if constexpr (kStreams) {
      // A line that is half streamed and then written to through the caches costs half a microsecond: so
      // whole lines are streamed, and only they.
      constexpr size_t kLine = 64 / sizeof(Memory);
      const size_t past = reinterpret_cast<uintptr_t>(out) / sizeof(Memory) % kLine;
      const size_t lines_begin = (kLine - past) % kLine;
      lines_end = n - HWY_MIN(n, (past + n) % kLine);
      for (; i < lines_begin && i + pack <= n; i += pack) packs(distance, Part<1>(), kCached, i);
    }
    for (; i + kRound * pack <= lines_end; i += kRound * pack) packs(distance, kRound, kStreams, i);
    for (; i + pack <= lines_end; i += pack) packs(distance, Part<1>(), kStreams, i);
    if constexpr (kStreams) {
      for (; i + pack <= n; i += pack) packs(distance, Part<1>(), kCached, i);
    }
  };
  constexpr bool kHalf = sizeof(Memory) < sizeof(typename S::Compute);
  constexpr Part<kHalf && kStore != Store::kCached ? kFarAheadBytes : kAheadBytes> kDistance;
  if (!kHalf && n * sizeof(Memory) >= kLongRowBytes) {
    whole_packs(Part<0>());
  } else {
    whole_packs(kDistance);
  }
  if constexpr (kStore != Store::kNone) {
    if (by_packs && kStore == Store::kStreaming) {
      const size_t rest = (n - head) % pack;
      if (head != 0) store_some(first, 0, 0, head);
      if (has_last) store_some(last, n - rest, pack - rest, rest);
      return;
    }
    if (by_packs) {
      if (head != 0) S::template store_pack<false>(d, first, out);
      if (has_last) S::template store_pack<false>(d, last, out + n - pack);
      return;
    }
  }
  if (i < n) end(i, n - i);
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_ROWS_INL_H_
