// The gradient, the elementwise loss and the conversions: written once, compiled for every target, in one
// object per dtype (MSELOSS_KERNEL_DTYPE, set by CMake).
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/elementwise.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <cstring>

#include "cpu/kernels/lanes-inl.h"
#include "cpu/kernels/row_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

template <class S, Store kStore, Loop kLoop, class D>
void grad(const RowBlock& block) {
  const D d;
  const auto scale = hn::Set(d, static_cast<hn::TFromD<D>>(block.scale));
  BroadcastVector<S> x_copies, y_copies;
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    void* out = output_row<S>(block, r);
    if (block.strided[kGradOutput]) {
      const auto g = row_input<S>(block, kGradOutput, r, nullptr);
      transform_row<S, kStore, kLoop>(d, out, block.n, [=](auto, auto load) MSELOSS_INLINE {
        return hn::Mul(hn::Mul(hn::Sub(load(x), load(y)), scale), load(g));
      });
    } else {  // the usual case: widened once, not in every iteration
      BroadcastVector<S> g_copies;
      const auto g = row_input<S>(block, kGradOutput, r, &g_copies).load(d, 0);
      transform_row<S, kStore, kLoop>(d, out, block.n, [=](auto, auto load) MSELOSS_INLINE {
        return hn::Mul(hn::Mul(hn::Sub(load(x), load(y)), scale), g);
      });
    }
  }
}

template <class S, Loop kLoop, class D>
void loss(const RowBlock& block) {
  BroadcastVector<S> x_copies, y_copies;
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    void* out = output_row<S>(block, r);
    transform_row<S, Store::kCached, kLoop>(D(), out, block.n, [=](auto, auto load) MSELOSS_INLINE {
      const auto difference = hn::Sub(load(x), load(y));
      return hn::Mul(difference, difference);
    });
  }
}

// float64 converts to a half type through float32 rounded to odd: the sticky last bit keeps the second
// rounding correct.
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
      HWY_ALIGN float narrow[hn::MaxLanes(d)];
      HWY_ALIGN double wide[hn::MaxLanes(d)];
      hn::Store(hn::LoadU(d, source), d, wide);
      for (size_t k = 0; k < lanes; ++k) narrow[k] = static_cast<float>(wide[k]);
      std::memcpy(sink, narrow, lanes * sizeof(narrow[0]));
    } else {
      HWY_ALIGN float odd[hn::MaxLanes(d)];
      HWY_ALIGN double wide[hn::MaxLanes(d)];
      hn::Store(hn::LoadU(d, source), d, wide);
      for (size_t k = 0; k < lanes; ++k) odd[k] = round_to_odd(wide[k]);
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

// Bytes to weights 0 and 1.
template <class S>
void convert_mask(const void* from, void* to, size_t n) {
  using Memory = typename S::Memory;
  const auto* source = static_cast<const uint8_t*>(from);
  auto* sink = static_cast<Memory*>(to);
  constexpr DType kDType = DType::MSELOSS_KERNEL_DTYPE;
  constexpr Memory kOne = kDType == DType::kFloat16 ? 0x3c00 : kDType == DType::kBFloat16 ? 0x3f80 : 1;
  for (size_t i = 0; i < n; ++i) sink[i] = source[i] != 0 ? kOne : Memory{0};
}

static void fill_elementwise(Kernels* kernels, bool native_bfloat16) {
  constexpr DType kDType = DType::MSELOSS_KERNEL_DTYPE;
  constexpr int i = static_cast<int>(kDType);
  with_storage<kDType>(native_bfloat16, [&](auto storage) {
    using S = decltype(storage);
    using T = typename S::Compute;
    const auto set = [&](int width, auto narrow, auto loop, auto d) {
      using N = decltype(narrow);
      kernels->grad[i][width] = &grad<N, Store::kCached, loop(), decltype(d)>;
      kernels->loss[i][width] = &loss<N, loop(), decltype(d)>;
    };
    constexpr std::integral_constant<Loop, Loop::kShortRow> kShort;
    constexpr size_t kElements = 16 / sizeof(typename S::Memory), kMost = hn::MaxLanes(hn::ScalableTag<T>());
    // For a half type one compute vector per storage vector if the target's vectors are that long, else two.
    const auto set_narrow = [&]<size_t kCount>(int width, std::integral_constant<size_t, kCount>) {
      if constexpr (kCount <= kMost) {
        set(width, SinglePart<S>(), kShort, hn::CappedTag<T, kCount>());
      } else {
        set(width, S(), kShort, hn::CappedTag<T, kCount / S::kParts>());
      }
    };
    set_narrow(0, std::integral_constant<size_t, kElements>());
    set_narrow(1, std::integral_constant<size_t, 2 * kElements>());
    set(2, S(), std::integral_constant<Loop, Loop::kRow>(), hn::ScalableTag<T>());
    kernels->grad_non_temporal[i] = &grad<S, Store::kNonTemporal, Loop::kRow, hn::ScalableTag<T>>;
    kernels->convert_mask[i] = &convert_mask<S>;
    for_each_storage(false, [&](auto to, auto to_storage) {
      kernels->convert[i][static_cast<int>(to())] = &convert<S, decltype(to_storage)>;
    });
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
MSELOSS_EXPORT_DTYPE_KERNELS(fill_elementwise)
#endif
