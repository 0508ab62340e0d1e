// Loads and stores compute vectors in each storage format. Half types are storage formats: widened to float32
// on load, rounded once on store. Re-included per target.
//
// One vector of a storage format holds the elements of kParts compute vectors, its parts. How elements are
// distributed over the parts depends on the format, so load_part() pairs with store_parts().
#if defined(MSELOSS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_LANES_INL_H_
#undef MSELOSS_LANES_INL_H_
#else
#define MSELOSS_LANES_INL_H_
#endif

#include <hwy/highway.h>

#include <type_traits>
#include <utility>

#include "cpu/kernels/half_bits-inl.h"
#include "cpu/kernels/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// Calls f(Index<0>()), ..., f(Index<kCount - 1>()). Arrays of vectors stay in registers only if every index
// is a constant before the compiler unrolls loops.
template <int kCount, class F>
HWY_INLINE void unrolled(const F& f) {
  const auto each = [&]<int... k>(std::integer_sequence<int, k...>) MSELOSS_INLINE { (f(Index<k>()), ...); };
  each(std::make_integer_sequence<int, kCount>());
}

// The storage format is the compute format.
template <class T>
struct SameStorage {
  using Memory = T;
  using Compute = T;
  static constexpr int kParts = 1;
  static constexpr bool kInterleaved = false;  // whether the parts hold the elements of even and of odd index

  template <class D>
  static HWY_INLINE hn::Vec<D> load(D d, const Memory* from) {
    return hn::LoadU(d, from);
  }
  template <class D>
  static HWY_INLINE void store(D d, hn::Vec<D> v, Memory* to) {
    hn::StoreU(v, d, to);
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> load_part(Index<0>, D d, const Memory* from) {
    return hn::LoadU(d, from);
  }
  template <bool kNonTemporal, class D>
  static HWY_INLINE void store_parts(D d, const hn::Vec<D>* v, Memory* to) {
    // Highway 1.0.3 writes 16 bytes with a non-temporal store even from a shorter vector.
    if constexpr (kNonTemporal && hn::MaxLanes(D()) * sizeof(T) >= 16) {
      hn::Stream(v[0], d, to);
    } else {
      hn::StoreU(v[0], d, to);
    }
  }
};

// A 16-bit format. Bits converts between it and vectors of float32.
template <class Bits>
struct HalfStorage {
  using Memory = uint16_t;
  using Compute = float;
  static constexpr int kParts = HWY_TARGET == HWY_SCALAR ? 1 : 2;
  static constexpr bool kInterleaved = kParts == 2 && Bits::kInterleaved;

  template <class D>
  static HWY_INLINE hn::Vec<D> load(D d, const Memory* from) {
    return Bits::widen(d, hn::LoadU(hn::Rebind<uint16_t, D>(), from));
  }
  template <class D>
  static HWY_INLINE void store(D d, hn::Vec<D> v, Memory* to) {
    const hn::Rebind<uint16_t, D> d16;
    hn::StoreU(Bits::narrow(d, v), d16, to);
  }
  template <int kPart, class D>
  static HWY_INLINE hn::Vec<D> load_part(Index<kPart> part, D d, const Memory* from) {
#if HWY_TARGET == HWY_SCALAR
    (void)part;
    return load(d, from);
#else
    return Bits::load_part(part, d, from);
#endif
  }
  template <bool kNonTemporal, class D>
  static HWY_INLINE void store_parts(D d, const hn::Vec<D>* v, Memory* to) {
#if HWY_TARGET == HWY_SCALAR
    store(d, v[0], to);
#else
    const hn::Repartition<uint16_t, D> d16;
    if constexpr (kNonTemporal) {
      hn::Stream(Bits::narrow_parts(d, v), d16, to);
    } else if constexpr (Bits::kInterleaved) {
      hn::StoreU(Bits::narrow_parts(d, v), d16, to);
    } else {  // two stores are cheaper than combining the halves
      store(d, v[0], to);
      store(d, v[1], to + hn::Lanes(d));
    }
#endif
  }
};

// The same format with one compute vector per storage vector, for rows shorter than a full vector of halves.
template <class S>
struct SinglePart : S {
  static constexpr int kParts = 1;
  static constexpr bool kInterleaved = false;

  template <class D>
  static HWY_INLINE hn::Vec<D> load_part(Index<0>, D d, const typename S::Memory* from) {
    return S::load(d, from);
  }
  template <bool kNonTemporal, class D>
  static HWY_INLINE void store_parts(D d, const hn::Vec<D>* v, typename S::Memory* to) {
    static_assert(!kNonTemporal);
    S::store(d, v[0], to);
  }
};

// A mask beside operands of storage S: bytes, of which those that are not 0 select elements. A loaded vector
// is true for the elements that the mask leaves out.
template <class S>
struct MaskStorage {
  using Memory = uint8_t;
  using Compute = typename S::Compute;
  static constexpr int kParts = S::kParts;

  template <class D>
  static HWY_INLINE hn::Mask<D> load(D d, const Memory* from) {
    const hn::RebindToUnsigned<D> du;
    const auto bytes = hn::LoadU(hn::Rebind<Memory, D>(), from);
    if constexpr (sizeof(Compute) == 8) {
      return is_zero(d, hn::PromoteTo(du, hn::PromoteTo(hn::Rebind<uint32_t, D>(), bytes)));
    } else {
      return is_zero(d, hn::PromoteTo(du, bytes));
    }
  }
  template <int kPart, class D>
  static HWY_INLINE hn::Mask<D> load_part(Index<kPart>, D d, const Memory* from) {
    if constexpr (S::kInterleaved) {
      const hn::RebindToUnsigned<D> du;
      const hn::Rebind<uint16_t, D> d16;
      const auto pairs = hn::BitCast(d16, hn::LoadU(hn::Repartition<Memory, decltype(d16)>(), from));
      return is_zero(d, hn::And(hn::PromoteTo(du, pairs), hn::Set(du, 0xffu << 8 * kPart)));
    } else {
      return load(d, from + kPart * hn::Lanes(d));
    }
  }

 private:
  template <class D>
  static HWY_INLINE hn::Mask<D> is_zero(D d, hn::Vec<hn::RebindToUnsigned<D>> v) {
    return hn::RebindMask(d, hn::Eq(v, hn::Zero(hn::RebindToUnsigned<D>())));
  }
};

template <class S, bool kMasked>
using WeightStorage = std::conditional_t<kMasked, MaskStorage<S>, S>;

template <DType kDType>
using DTypeConstant = std::integral_constant<DType, kDType>;

// Calls f(DTypeConstant, storage) for each dtype; with native_bfloat16 once more for bfloat16, with the
// faster storage.
template <class F>
HWY_INLINE void for_each_storage([[maybe_unused]] bool native_bfloat16, F f) {
  f(DTypeConstant<DType::kFloat32>(), SameStorage<float>());
  f(DTypeConstant<DType::kFloat16>(), HalfStorage<Float16Bits>());
  f(DTypeConstant<DType::kBFloat16>(), HalfStorage<BFloat16Bits>());
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  if (native_bfloat16) f(DTypeConstant<DType::kBFloat16>(), HalfStorage<NativeBFloat16Bits>());
#endif
  f(DTypeConstant<DType::kFloat64>(), SameStorage<double>());
}

// The same for one dtype.
template <DType kDType, class F>
HWY_INLINE void with_storage(bool native_bfloat16, F f) {
  for_each_storage(native_bfloat16, [&](auto dtype, auto storage) {
    if constexpr (dtype() == kDType) f(storage);
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_LANES_INL_H_
