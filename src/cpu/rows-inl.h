// The loop that every elementwise kernel is: whole vectors, four at a time, and a last part that goes through
// a buffer. Re-included per target.
#if defined(MSELOSS_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_ROWS_INL_H_
#undef MSELOSS_ROWS_INL_H_
#else
#define MSELOSS_ROWS_INL_H_
#endif

#include <cstring>

#include "cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// An input of a run. One element that stands for all becomes a vector of copies which the loop never leaves:
// a load that hits L1 costs less than a second version of every kernel.
template <class S>
class Source {
 public:
  using Memory = typename S::Memory;

  Source(const void* in, bool moves) : from_(static_cast<const Memory*>(in)), mask_(moves ? ~size_t{0} : 0) {
    if (moves) return;
    Memory one;
    std::memcpy(&one, in, sizeof(one));
    for (Memory& copy : copies_) copy = one;
    from_ = copies_;
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  template <class D>
  HWY_INLINE hn::Vec<D> load(D d, size_t i) const {
    return S::load(d, from_ + (i & mask_));
  }
  // The first `count` lanes from element i on; the others are zero, or copies of the one element.
  template <class D>
  HWY_INLINE hn::Vec<D> load_part(D d, size_t i, size_t count) const {
    if (mask_ == 0) return S::load(d, from_);
    HWY_ALIGN Memory part[hn::MaxLanes(D())] = {};
    std::memcpy(part, from_ + i, count * sizeof(Memory));
    return S::load(d, part);
  }

 private:
  const Memory* from_;
  size_t mask_;
  HWY_ALIGN Memory copies_[hn::MaxLanes(hn::ScalableTag<typename S::Compute>())];
};

// Calls f(from) for each vector of the run, where from(source) is that source's part of it, and stores what f
// returns.
template <class S, bool kStream, class F>
HWY_INLINE void sweep(const Row& row, const F& f) {
  using Memory = typename S::Memory;
  const hn::ScalableTag<typename S::Compute> d;
  const size_t lanes = hn::Lanes(d), n = row.n;
  Memory* out = static_cast<Memory*>(row.out);
  const auto part = [&](size_t i, size_t count) HWY_ATTR {
    HWY_ALIGN Memory buffer[hn::MaxLanes(d)];
    S::store(d, f([&](const auto& source) HWY_ATTR { return source.load_part(d, i, count); }), buffer);
    std::memcpy(out + i, buffer, count * sizeof(Memory));
  };
  const auto put = [&](hn::Vec<decltype(d)> v, size_t i) HWY_ATTR {
    if constexpr (kStream) {
      S::stream(d, v, out + i);
    } else {
      S::store(d, v, out + i);
    }
  };
  size_t i = 0;
  if constexpr (kStream) {  // streaming stores want whole, aligned vectors
    const size_t past = reinterpret_cast<uintptr_t>(out) / sizeof(Memory) % lanes;
    i = HWY_MIN(n, (lanes - past) % lanes);
    if (i != 0) part(0, i);
  }
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto at = [&](size_t k) HWY_ATTR {
      return f([&](const auto& source) HWY_ATTR { return source.load(d, i + k * lanes); });
    };
    const auto v0 = at(0), v1 = at(1), v2 = at(2), v3 = at(3);
    put(v0, i);
    put(v1, i + lanes);
    put(v2, i + 2 * lanes);
    put(v3, i + 3 * lanes);
  }
  for (; i + lanes <= n; i += lanes) {
    put(f([&](const auto& source) HWY_ATTR { return source.load(d, i); }), i);
  }
  if (i < n) part(i, n - i);
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_ROWS_INL_H_
