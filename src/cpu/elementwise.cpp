// The gradient, the elementwise loss and the conversions: written once, compiled for every target.
#include "cpu/targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/elementwise.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <cstring>

#include "cpu/lanes-inl.h"
#include "cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

template <class S, Store kStore, class D>
void grad(const Rows& rows) {
  const D d;
  const auto scale = hn::Set(d, static_cast<hn::TFromD<D>>(rows.scale));
  Copies<S> of_x, of_y;
  for (size_t r = 0; r < rows.rows; ++r) {
    const auto x = source_of<S>(rows, 1, r, &of_x), y = source_of<S>(rows, 2, r, &of_y);
    void* out = static_cast<typename S::Memory*>(rows.out) + static_cast<ptrdiff_t>(r) * rows.out_pitch;
    if (rows.moves[0]) {
      const auto g = source_of<S>(rows, 0, r, nullptr);
      sweep<S, kStore, false>(d, out, rows.n, [=](auto, auto from) MSELOSS_INLINE {
        return hn::Mul(hn::Mul(hn::Sub(from(x), from(y)), scale), from(g));
      });
    } else {  // the usual case: worth not widening it again and again
      Copies<S> of_g;
      const auto g = source_of<S>(rows, 0, r, &of_g).load(d, 0);
      sweep<S, kStore, false>(d, out, rows.n, [=](auto, auto from) MSELOSS_INLINE {
        return hn::Mul(hn::Mul(hn::Sub(from(x), from(y)), scale), g);
      });
    }
  }
}

template <class S, class D>
void loss(const Rows& rows) {
  Copies<S> of_x, of_y;
  for (size_t r = 0; r < rows.rows; ++r) {
    const auto x = source_of<S>(rows, 1, r, &of_x), y = source_of<S>(rows, 2, r, &of_y);
    void* out = static_cast<typename S::Memory*>(rows.out) + static_cast<ptrdiff_t>(r) * rows.out_pitch;
    sweep<S, Store::kCached, false>(D(), out, rows.n, [=](auto, auto from) MSELOSS_INLINE {
      const auto difference = hn::Sub(from(x), from(y));
      return hn::Mul(difference, difference);
    });
  }
}

// float64 to a half type by way of float32, rounded to odd there, so that the second rounding sees what was
// cut off.
HWY_INLINE float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || value != value) return nearest;
  uint32_t bits;
  std::memcpy(&bits, &nearest, sizeof(bits));
  const double back = nearest;
  if ((value < 0 ? -back : back) > (value < 0 ? -value : value)) --bits;
  bits |= 1;
  float odd;
  std::memcpy(&odd, &bits, sizeof(odd));
  return odd;
}

template <class From, class To>
void convert(const void* from, void* to, size_t n) {
  using A = typename From::Compute;
  using B = typename To::Compute;
  const hn::ScalableTag<std::conditional_t<std::is_same_v<A, B>, A, double>> d;
  const hn::Rebind<A, decltype(d)> da;
  const hn::Rebind<B, decltype(d)> db;
  const size_t lanes = hn::Lanes(d);
  const auto vector = [&](const typename From::Memory* source, typename To::Memory* sink) MSELOSS_INLINE {
    if constexpr (std::is_same_v<A, B>) {
      To::store(db, From::load(da, source), sink);
    } else if constexpr (std::is_same_v<A, float>) {  // widening is exact
      hn::StoreU(hn::PromoteTo(db, From::load(da, source)), db, sink);
    } else if constexpr (std::is_same_v<typename To::Memory, float>) {
      // Not DemoteTo(): Highway 1.0.3 clamps to the largest finite value on its scalar target.
      for (size_t k = 0; k < lanes; ++k) sink[k] = static_cast<float>(source[k]);
    } else {
      HWY_ALIGN float odd[hn::MaxLanes(d)];
      for (size_t k = 0; k < lanes; ++k) odd[k] = round_to_odd(source[k]);
      To::store(db, hn::LoadU(db, odd), sink);
    }
  };
  const auto* source = static_cast<const typename From::Memory*>(from);
  auto* sink = static_cast<typename To::Memory*>(to);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) vector(source + i, sink + i);
  if (i == n) return;
  HWY_ALIGN typename From::Memory end[hn::MaxLanes(d)] = {};
  HWY_ALIGN typename To::Memory out[hn::MaxLanes(d)];
  std::memcpy(end, source + i, (n - i) * sizeof(end[0]));
  vector(end, out);
  std::memcpy(sink + i, out, (n - i) * sizeof(out[0]));
}

void fill_elementwise(Kernels* kernels, bool rounds_bfloat16) {
  for_each_storage(rounds_bfloat16, [&](DType dtype, auto storage) {
    using S = decltype(storage);
    const int i = static_cast<int>(dtype);
    using T = typename S::Compute;
    const auto of_width = [&](int width, auto narrow, auto d) {
      using N = decltype(narrow);
      kernels->grad[i][width] = &grad<N, Store::kCached, decltype(d)>;
      kernels->loss[i][width] = &loss<N, decltype(d)>;
    };
    constexpr size_t kElements = 16 / sizeof(typename S::Memory), kMost = hn::MaxLanes(hn::ScalableTag<T>());
    // Of a half type one compute vector, where the target has it that long; else a pack of two.
    const auto up_to = [&]<size_t kCount>(int width, std::integral_constant<size_t, kCount>) {
      if constexpr (kCount <= kMost) {
        of_width(width, Unpacked<S>(), hn::CappedTag<T, kCount>());
      } else {
        of_width(width, S(), hn::CappedTag<T, kCount / S::kPack>());
      }
    };
    up_to(0, std::integral_constant<size_t, kElements>());
    up_to(1, std::integral_constant<size_t, 2 * kElements>());
    of_width(2, S(), hn::ScalableTag<T>());
    kernels->grad_streaming[i] = &grad<S, Store::kStreaming, hn::ScalableTag<T>>;
    for_each_storage(false, [&](DType to, auto to_storage) {
      kernels->convert[i][static_cast<int>(to)] = &convert<S, decltype(to_storage)>;
    });
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mseloss::cpu {
HWY_EXPORT(fill_elementwise);
void fill_elementwise_kernels(Kernels* kernels, size_t target, bool rounds_bfloat16) {
  HWY_DISPATCH_TABLE(fill_elementwise)[target](kernels, rounds_bfloat16);
}
}  // namespace mseloss::cpu
#endif
