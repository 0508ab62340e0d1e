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

// The largest number of elements in a pack.
template <class S>
inline constexpr size_t kMaxPack = S::kPack* hn::MaxLanes(hn::ScalableTag<typename S::Compute>());

// Compute vectors a round: enough to hide the latency of an addition.
inline constexpr int kVectors = 4;

// How far ahead of its loads a sweep asks for memory: where half types are widened, the processor's own
// prefetchers alone leave a fifth of the bandwidth unused (docs/performance.md).
inline constexpr size_t kPrefetchBytes = 2048;

// A pack of the one element that stands for all of an input.
template <class S>
class Copies {
 public:
  using Memory = typename S::Memory;
  HWY_INLINE const Memory* fill(const void* one) {
    Memory element;
    std::memcpy(&element, one, sizeof(element));
    const hn::CappedTag<Memory, kMaxPack<S>> d;
    for (size_t i = 0; i < kMaxPack<S>; i += hn::Lanes(d)) hn::Store(hn::Set(d, element), d, copies_ + i);
    return copies_;
  }

 private:
  HWY_ALIGN Memory copies_[kMaxPack<S>];
};

// The one element, in every lane.
template <class S, class D>
HWY_INLINE hn::Vec<D> broadcast(D d, const void* one) {
  Copies<S> copies;
  return S::load(d, copies.fill(one));
}

// An input of a run. Copies of an element that stands for all are a pack which the loop never leaves: a load
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
  template <class P, class D>
  HWY_INLINE hn::Vec<D> load_pack(P part, D d, size_t i) const {
    const Memory* at = from_ + (i & mask_);
    if constexpr (P::value == 0) hwy::Prefetch(at + kPrefetchBytes / sizeof(Memory));
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

enum class Store { kNone, kCached, kStreaming };

// Calls f(k, from) for each compute vector of the run, where from(source) is that source's part of it and k <
// kVectors its place in the round, and stores what f returns. Beyond the run's ends sources are zero.
template <class S, Store kStore, class F>
HWY_INLINE void sweep(const Row& row, const F& f) {
  using Memory = typename S::Memory;
  const hn::ScalableTag<typename S::Compute> d;
  using V = hn::Vec<decltype(d)>;
  const size_t pack = S::kPack * hn::Lanes(d), n = row.n;
  Memory* out = static_cast<Memory*>(row.out);

  const auto compute = [&](int k, V* v, const auto& load) HWY_ATTR {
    v[0] = f(k, [&](const auto& source) HWY_ATTR { return load(Part<0>(), source); });
    if constexpr (S::kPack > 1) {
      v[1] = f(k + 1, [&](const auto& source) HWY_ATTR { return load(Part<1>(), source); });
    }
  };
  const auto end = [&](size_t i, size_t count) HWY_ATTR {
    V v[S::kPack];
    compute(0, v,
            [&](auto part, const auto& source) HWY_ATTR { return source.load_end_pack(part, d, i, count); });
    if constexpr (kStore == Store::kNone) return;
    HWY_ALIGN Memory buffer[kMaxPack<S>];
    S::template store_pack<false>(d, v, buffer);
    std::memcpy(out + i, buffer, count * sizeof(Memory));
  };
  const auto packs = [&](auto count, size_t i) HWY_ATTR {
    V v[kVectors];
    for (int k = 0; k < count; ++k) {
      compute(k * S::kPack, v + k * S::kPack, [&](auto part, const auto& source) HWY_ATTR {
        return source.load_pack(part, d, i + k * pack);
      });
    }
    if constexpr (kStore == Store::kNone) return;
    for (int k = 0; k < count; ++k) {
      S::template store_pack<kStore == Store::kStreaming>(d, v + k * S::kPack, out + i + k * pack);
    }
  };

  constexpr std::integral_constant<int, kVectors / S::kPack> kRound;
  constexpr std::integral_constant<int, 1> kOne;
  size_t i = 0;
  if constexpr (kStore == Store::kStreaming) {  // streaming stores want whole, aligned vectors
    const size_t past = reinterpret_cast<uintptr_t>(out) / sizeof(Memory) % pack;
    i = HWY_MIN(n, (pack - past) % pack);
    if (i != 0) end(0, i);
  }
  for (; i + kRound * pack <= n; i += kRound * pack) packs(kRound, i);
  for (; i + pack <= n; i += pack) packs(kOne, i);
  if (i < n) end(i, n - i);
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_ROWS_INL_H_
