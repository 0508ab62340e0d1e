// Sums in float64, one in each lane of a vector: plain, and in double-double. Re-included per target.
#if defined(MSELOSS_LANE_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_LANE_SUMS_INL_H_
#undef MSELOSS_LANE_SUMS_INL_H_
#else
#define MSELOSS_LANE_SUMS_INL_H_
#endif

#include "cpu/kernels/exact_block-inl.h"
#include "numerics/sum_access.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// Sums of lanes in float64, for terms of float32.
struct SingleSums {
  WideV high;

  HWY_INLINE SingleSums() {}  // not defaulted: that constructor would lack the target's attribute
  HWY_INLINE explicit SingleSums(WideV of) : high(of) {}
  static HWY_INLINE SingleSums zero() { return SingleSums(hn::Zero(Wide())); }
  HWY_INLINE WideV low() const { return hn::Zero(Wide()); }
  HWY_INLINE void add_square(WideV v) { high = hn::MulAdd(v, v, high); }  // the product is exact
  HWY_INLINE void add_weighted_square(WideV v, WideV w) { high = hn::MulAdd(hn::Mul(v, v), w, high); }
  HWY_INLINE void add_term(WideV v) { high = hn::Add(high, v); }
  static HWY_INLINE SingleSums add(const SingleSums& a, const SingleSums& b) {
    return SingleSums(hn::Add(a.high, b.high));
  }
  template <class F>
  static HWY_INLINE SingleSums combine(const F& f, const SingleSums& a, const SingleSums& b) {
    return SingleSums(f(a.high, b.high));
  }
  // The error of a sum of `terms` terms of the magnitudes `of`, each of which passes through `roundings`.
  static HWY_INLINE WideV error(WideV of, size_t, size_t roundings, WideV) {
    return hn::Mul(of, hn::Set(Wide(), kUnit * static_cast<double>(roundings) * kSlack));
  }
};

// In double-double, for terms of float64: a term that is rounded is added with its rounding error.
struct PairSums {
  WideV high, low_part;

  HWY_INLINE PairSums() {}
  HWY_INLINE PairSums(WideV of_high, WideV of_low) : high(of_high), low_part(of_low) {}
  static HWY_INLINE PairSums zero() { return {hn::Zero(Wide()), hn::Zero(Wide())}; }
  HWY_INLINE WideV low() const { return low_part; }
  HWY_INLINE void add_square(WideV v) {
    const auto square = hn::Mul(v, v);
    add_rounded(square, product_error(v, v, square));
  }
  HWY_INLINE void add_weighted_square(WideV v, WideV w) {
    const auto square = hn::Mul(v, v), term = hn::Mul(square, w);
    add_rounded(term, hn::MulAdd(product_error(v, v, square), w, product_error(square, w, term)));
  }
  HWY_INLINE void add_term(WideV v) { low_part = hn::Add(low_part, two_sum(high, v, &high)); }
  HWY_INLINE void add_rounded(WideV term, WideV rounding_error) {
    const auto residual = two_sum(high, term, &high);
    low_part = hn::Add(low_part, hn::Add(residual, rounding_error));
  }
  static HWY_INLINE PairSums add(PairSums a, const PairSums& b) {
    a.add_rounded(b.high, b.low_part);
    return a;
  }
  template <class F>
  static HWY_INLINE PairSums combine(const F& f, const PairSums& a, const PairSums& b) {
    return {f(a.high, b.high), f(a.low_part, b.low_part)};
  }
  // Products that underflow lose a few smallest subnormals, before they are multiplied by weights whose
  // magnitudes have the sum `weights`.
  static HWY_INLINE WideV error(WideV of, size_t terms, size_t roundings, WideV weights) {
    const double additions = static_cast<double>(roundings) + 4;
    const auto lost = hn::Mul(hn::Set(Wide(), static_cast<double>(terms) * 0x1p-1070),
                              hn::Add(weights, hn::Set(Wide(), 1.0)));
    return hn::MulAdd(of, hn::Set(Wide(), 8 * additions * additions * kUnit * kUnit * kSlack), lost);
  }
};

#if HWY_TARGET != HWY_SCALAR
// The sum of two shuffles of the vectors a and b.
template <class V, class F, class G>
HWY_INLINE V sum_of_shuffles(const V& a, const V& b, const F& one, const G& other) {
  return V::add(V::combine(one, a, b), V::combine(other, a, b));
}

// In each block of 16 bytes, the sum of a's block, then that of b's.
template <class V>
HWY_INLINE V sum_pairs(const V& a, const V& b) {
  const Wide d;
  return sum_of_shuffles(
      a, b, [=](WideV p, WideV q) MSELOSS_INLINE { return hn::InterleaveLower(d, p, q); },
      [=](WideV p, WideV q) MSELOSS_INLINE { return hn::InterleaveUpper(d, p, q); });
}

// The sum of the halves of a in the lower half, that of b in the upper.
template <class V>
HWY_INLINE V sum_halves(const V& a, const V& b) {
  const Wide d;
  return sum_of_shuffles(
      a, b, [=](WideV p, WideV q) MSELOSS_INLINE { return hn::ConcatLowerLower(d, q, p); },
      [=](WideV p, WideV q) MSELOSS_INLINE { return hn::ConcatUpperUpper(d, q, p); });
}
#endif

// The sum of each of as many vectors as a vector has lanes: lane k of the result is that of rows[k]. Cheaper
// than a sum across the lanes of each vector.
template <class V>
HWY_INLINE V sum_of_each(const V* rows) {
#if HWY_TARGET == HWY_SCALAR
  return rows[0];
#else
  if constexpr (hn::MaxLanes(Wide()) == 2) {
    return sum_pairs(rows[0], rows[1]);
  } else if constexpr (hn::MaxLanes(Wide()) == 4) {
    return sum_halves(sum_pairs(rows[0], rows[1]), sum_pairs(rows[2], rows[3]));
  } else {
    // Rows 0 1 | 0 1 | 4 5 | 4 5 in blocks, then 2 3 | 2 3 | 6 7 | 6 7.
    const V a = sum_halves(sum_pairs(rows[0], rows[1]), sum_pairs(rows[4], rows[5]));
    const V b = sum_halves(sum_pairs(rows[2], rows[3]), sum_pairs(rows[6], rows[7]));
    const auto keep = [](WideV p, WideV q) MSELOSS_INLINE { return hn::OddEvenBlocks(q, p); };
    const auto swap = [](WideV p, WideV q)
                          MSELOSS_INLINE { return hn::SwapAdjacentBlocks(hn::OddEvenBlocks(p, q)); };
    return sum_of_shuffles(a, b, keep, swap);
  }
#endif
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_LANE_SUMS_INL_H_
