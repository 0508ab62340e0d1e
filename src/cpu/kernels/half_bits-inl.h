// The bits of the half types: conversions between vectors of them and of float32, with the same results on
// every target. Re-included per target.
#if defined(MSELOSS_HALF_BITS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_HALF_BITS_INL_H_
#undef MSELOSS_HALF_BITS_INL_H_
#else
#define MSELOSS_HALF_BITS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Whether the target has IEEE float16 conversions (Highway 1.0.3 truncates where it emulates them) and a
// fused multiply-add that rounds once.
#undef MSELOSS_NATIVE_FLOAT16
#undef MSELOSS_NATIVE_FMA
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || HWY_ARCH_ARM_A64
#define MSELOSS_NATIVE_FLOAT16 1
#define MSELOSS_NATIVE_FMA 1
#else
#define MSELOSS_NATIVE_FLOAT16 0
#define MSELOSS_NATIVE_FMA 0
#endif

// A compile-time index: an array of vectors stays in registers only if all its indices are constants.
template <int k>
using Index = std::integral_constant<int, k>;

// The lower 16 bits of each lane. Lanes are below 2^16, so DemoteTo()'s saturation has no effect.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, D>> low_halves(D, hn::Vec<hn::RebindToUnsigned<D>> bits) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  return hn::TruncateTo(hn::Rebind<uint16_t, D>(), bits);  // one instruction here
#else
  return hn::DemoteTo(hn::Rebind<uint16_t, D>(), hn::BitCast(hn::RebindToSigned<D>(), bits));
#endif
}

struct BFloat16Bits {
  static constexpr bool kInterleaved = true;  // the parts hold the elements of even and of odd index

  template <class D>
  static HWY_INLINE hn::Vec<D> widen(D d, hn::Vec<hn::Rebind<uint16_t, D>> half) {
    const hn::RebindToUnsigned<D> du;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, half)));
  }
  template <class D>
  static HWY_INLINE hn::Vec<hn::Rebind<uint16_t, D>> narrow(D d, hn::Vec<D> v) {
    const hn::RebindToUnsigned<D> du;
    const auto quiet = hn::Or(hn::BitCast(du, v), hn::Set(du, 0x400000u));
    const auto all = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded(d, v));
    return low_halves(d, hn::ShiftRight<16>(all));
  }

#if HWY_TARGET != HWY_SCALAR
  // One operation moves each element to the upper half of its lane.
  template <int kPart, class D>
  static HWY_INLINE hn::Vec<D> load_part(Index<kPart>, D d, const uint16_t* from) {
    const hn::RebindToUnsigned<D> du;
    const auto both = hn::BitCast(du, hn::LoadU(hn::Repartition<uint16_t, D>(), from));
    return hn::BitCast(d, kPart == 0 ? hn::ShiftLeft<16>(both) : hn::And(both, hn::Set(du, 0xffff0000u)));
  }
  // For results of arithmetic on widened elements only: there, a NaN is quiet and its lower half zero.
  template <class D>
  static HWY_INLINE hn::Vec<hn::Repartition<uint16_t, D>> narrow_parts(D d, const hn::Vec<D>* v) {
    const hn::Repartition<uint16_t, D> d16;
    const auto even = hn::ShiftRight<16>(rounded(d, v[0])), odd = rounded(d, v[1]);
    return hn::OddEven(hn::BitCast(d16, odd), hn::BitCast(d16, even));
  }
#endif

 private:
  // Rounds each lane to its upper half; the caller discards the lower half. Not for arbitrary NaNs: one whose
  // fraction lies in the lower half can become an infinity, one whose fraction is all ones a zero.
  template <class D>
  static HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> rounded(D, hn::Vec<D> v) {
    const hn::RebindToUnsigned<D> du;
    const auto bits = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
    return hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd);
  }
};

struct Float16Bits {
  static constexpr bool kInterleaved = false;  // the parts hold the lower and the upper half

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
    // Shifted to float32's positions, the exponent is too small by the difference of the biases, 112. The
    // multiplication by 2^112 is exact and also normalises subnormals.
    const auto shifted = hn::BitCast(d, hn::ShiftLeft<13>(magnitude));
    const auto finite = hn::BitCast(du, hn::Mul(shifted, hn::Set(d, 0x1p112f)));
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
    // Normal results: rebias and round in one addition; a carry out of the fraction increments the exponent.
    const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1u));
    const auto rebiased = hn::Add(hn::Add(magnitude, hn::Set(du, 0xc8000fffu)), odd);
    const auto normal = hn::ShiftRight<13>(rebiased);
    // Subnormal results are multiples of 2^-24, which is the last bit of 0.5f, so adding 0.5f rounds to them.
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

#if HWY_TARGET != HWY_SCALAR
  template <int kPart, class D>
  static HWY_INLINE hn::Vec<D> load_part(Index<kPart>, D d, const uint16_t* from) {
    return widen(d, hn::LoadU(hn::Rebind<uint16_t, D>(), from + kPart * hn::Lanes(d)));
  }
  template <class D>
  static HWY_INLINE hn::Vec<hn::Repartition<uint16_t, D>> narrow_parts(D d, const hn::Vec<D>* v) {
    return hn::Combine(hn::Repartition<uint16_t, D>(), narrow(d, v[1]), narrow(d, v[0]));
  }
#endif
};

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
// Uses AVX512_BF16's VCVTNE2PS2BF16, which rounds two vectors at once but treats subnormals as zero; vectors
// that contain a subnormal use the integer conversion.
struct NativeBFloat16Bits : BFloat16Bits {
  template <class D>
  static HWY_INLINE hn::Vec<hn::Repartition<uint16_t, D>> narrow_parts(D d, const hn::Vec<D>* v) {
    if constexpr (hn::MaxLanes(d) == 16) {
      constexpr int kSubnormal = 0x20;
      const bool none = _kortestz_mask16_u8(_mm512_fpclass_ps_mask(v[0].raw, kSubnormal),
                                            _mm512_fpclass_ps_mask(v[1].raw, kSubnormal));
      if (HWY_LIKELY(none)) {
        alignas(64) static constexpr uint16_t kEvenOdd[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                              21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                              11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
        __m512i halves;
        asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(halves) : "v"(v[1].raw), "v"(v[0].raw));
        return hn::Vec<hn::Repartition<uint16_t, D>>{
            _mm512_permutexvar_epi16(_mm512_load_si512(kEvenOdd), halves)};
      }
    }
    return BFloat16Bits::narrow_parts(d, v);
  }
};
#endif

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_HALF_BITS_INL_H_
