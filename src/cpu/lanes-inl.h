// Loads and stores between memory formats and compute vectors. Half types are storage formats: widened to
// float32 on load, rounded once on store, by the same integer rules on every target. Re-included per target.
#if defined(MSELOSS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_LANES_INL_H_
#undef MSELOSS_LANES_INL_H_
#else
#define MSELOSS_LANES_INL_H_
#endif

#include <hwy/highway.h>

#include "cpu/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Where the target has IEEE float16 conversions of its own (Highway 1.0.3 truncates where it emulates them),
// and a fused multiply-add that rounds once.
#undef MSELOSS_NATIVE_FLOAT16
#undef MSELOSS_NATIVE_FMA
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || HWY_ARCH_ARM_A64
#define MSELOSS_NATIVE_FLOAT16 1
#define MSELOSS_NATIVE_FMA 1
#else
#define MSELOSS_NATIVE_FLOAT16 0
#define MSELOSS_NATIVE_FMA 0
#endif

// Highway 1.0.3 streams 16 bytes even from a shorter vector; those are stored as usual.
template <class D>
HWY_INLINE void stream_vector(D d, hn::Vec<D> v, hn::TFromD<D>* to) {
  if constexpr (hn::MaxLanes(D()) * sizeof(hn::TFromD<D>) < 16) {
    hn::StoreU(v, d, to);
  } else {
    hn::Stream(v, d, to);
  }
}

// Same: the memory format is the compute format.
template <class T>
struct Same {
  using Memory = T;
  using Compute = T;
  template <class D>
  static HWY_INLINE hn::Vec<D> load(D d, const Memory* from) {
    return hn::LoadU(d, from);
  }
  template <class D>
  static HWY_INLINE void store(D d, hn::Vec<D> v, Memory* to) {
    hn::StoreU(v, d, to);
  }
  template <class D>
  static HWY_INLINE void stream(D d, hn::Vec<D> v, Memory* to) {
    stream_vector(d, v, to);
  }
};

// A format of 16 bits: Bits turns a float32 vector into uint32 lanes whose low half is the format, and back.
template <class Bits>
struct Half {
  using Memory = uint16_t;
  using Compute = float;
  template <class D>
  static HWY_INLINE hn::Vec<D> load(D d, const Memory* from) {
    return Bits::widen(d, hn::LoadU(hn::Rebind<uint16_t, D>(), from));
  }
  template <class D>
  static HWY_INLINE void store(D d, hn::Vec<D> v, Memory* to) {
    const hn::Rebind<uint16_t, D> d16;
    hn::StoreU(Bits::narrow(d, v), d16, to);
  }
  template <class D>
  static HWY_INLINE void stream(D d, hn::Vec<D> v, Memory* to) {
    stream_vector(hn::Rebind<uint16_t, D>(), Bits::narrow(d, v), to);
  }
};

// Lanes are below 2^16, so that saturation would change nothing.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, D>> low_halves(D, hn::Vec<hn::RebindToUnsigned<D>> bits) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  return hn::TruncateTo(hn::Rebind<uint16_t, D>(), bits);  // one instruction here
#else
  return hn::DemoteTo(hn::Rebind<uint16_t, D>(), hn::BitCast(hn::RebindToSigned<D>(), bits));
#endif
}

struct BFloat16Bits {
  template <class D>
  static HWY_INLINE hn::Vec<D> widen(D d, hn::Vec<hn::Rebind<uint16_t, D>> half) {
    const hn::RebindToUnsigned<D> du;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, half)));
  }
  template <class D>
  static HWY_INLINE hn::Vec<hn::Rebind<uint16_t, D>> narrow(D d, hn::Vec<D> v) {
    const hn::RebindToUnsigned<D> du;
    const auto bits = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd);
    const auto quiet = hn::Or(bits, hn::Set(du, 0x400000u));  // rounding could turn a NaN into an infinity
    const auto is_nan = hn::RebindMask(du, hn::IsNaN(v));
    return low_halves(d, hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded)));
  }
};

struct Float16Bits {
#if MSELOSS_NATIVE_FLOAT16
  template <class D>
  static HWY_INLINE hn::Vec<D> widen(D d, hn::Vec<hn::Rebind<uint16_t, D>> half) {
    return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), half));
  }
  template <class D>
  static HWY_INLINE hn::Vec<hn::Rebind<uint16_t, D>> narrow(D d, hn::Vec<D> v) {
    (void)d;
    return hn::BitCast(hn::Rebind<uint16_t, D>(), hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), v));
  }
#else
  template <class D>
  static HWY_INLINE hn::Vec<D> widen(D d, hn::Vec<hn::Rebind<uint16_t, D>> half) {
    const hn::RebindToUnsigned<D> du;
    const auto bits = hn::PromoteTo(du, half);
    const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffu));
    const auto sign = hn::ShiftLeft<16>(hn::Xor(bits, magnitude));
    // Exponent and fraction in float32's places, 112 too low; the product is exact and lifts subnormals as
    // well.
    const auto placed = hn::BitCast(d, hn::ShiftLeft<13>(magnitude));
    const auto finite = hn::BitCast(du, hn::Mul(placed, hn::Set(d, 0x1p112f)));
    const auto special = hn::Or(hn::ShiftLeft<13>(magnitude), hn::Set(du, 0x7f800000u));
    const hn::RebindToSigned<D> di;
    const auto is_special = hn::RebindMask(du, hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x7bff)));
    return hn::BitCast(d, hn::Or(sign, hn::IfThenElse(is_special, special, finite)));
  }
  template <class D>
  static HWY_INLINE hn::Vec<hn::Rebind<uint16_t, D>> narrow(D d, hn::Vec<D> v) {
    const hn::RebindToUnsigned<D> du;
    const hn::RebindToSigned<D> di;
    const auto bits = hn::BitCast(du, v);
    const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffffffu));
    const auto sign = hn::ShiftRight<16>(hn::Xor(bits, magnitude));
    // Normal results: rebias and round in one addition; a carry out of the fraction is the right exponent.
    const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1u));
    const auto rebiased = hn::Add(hn::Add(magnitude, hn::Set(du, 0xc8000fffu)), odd);
    const auto normal = hn::ShiftRight<13>(rebiased);
    // Subnormal results: the last bit of 0.5 weighs 2^-24, as theirs does, so the addition rounds for us.
    const auto half = hn::Set(d, 0.5f);
    const auto subnormal =
        hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(d, magnitude), half)), hn::BitCast(du, half));
    const auto signed_magnitude = hn::BitCast(di, magnitude);
    const auto above = [&](int32_t limit) {
      return hn::RebindMask(du, hn::Gt(signed_magnitude, hn::Set(di, limit)));
    };
    auto result = hn::IfThenElse(above(0x387fffff), normal, subnormal);
    result = hn::IfThenElse(above(0x477fffff), hn::Set(du, 0x7c00u), result);
    result = hn::IfThenElse(above(0x7f800000), hn::Set(du, 0x7e00u), result);
    return low_halves(d, hn::Or(result, sign));
  }
#endif
};

// Calls f with the storage of each dtype, in DType's order.
template <class F>
HWY_INLINE void for_each_storage(F f) {
  f(DType::kFloat32, Same<float>());
  f(DType::kFloat16, Half<Float16Bits>());
  f(DType::kBFloat16, Half<BFloat16Bits>());
  f(DType::kFloat64, Same<double>());
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_LANES_INL_H_
