// Accumulators of squared differences and of weighted ones, with error bounds; docs/numerics.md has the
// proofs. Re-included per target.
#if defined(MSELOSS_SQUARES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_SQUARES_INL_H_
#undef MSELOSS_SQUARES_INL_H_
#else
#define MSELOSS_SQUARES_INL_H_
#endif

#include <limits>

#include "cpu/kernels/exact_block-inl.h"
#include "cpu/kernels/lane_sums-inl.h"
#include "cpu/kernels/row_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// What the error of a sum depends on: the most additions that one term passes through, and the number of its
// terms, which exceeds that if accumulators were merged.
struct TermCounts {
  size_t additions, terms;
};

// kAccumulators hide the latency of an addition.
template <class T, int kAccumulators = kSumUnroll>
class Squares;

// Squares of float32 are exact in float64: plain sums. An accumulator has the sums of one float32 vector, two
// of float64.
template <int kAccumulators>
class Squares<float, kAccumulators> {
 public:
  using D = hn::ScalableTag<float>;
  static constexpr int kColumnParts = HWY_TARGET == HWY_SCALAR ? 1 : 2;

  HWY_INLINE Squares() {
    unrolled<2 * kAccumulators>([&](auto k) MSELOSS_INLINE { sum_[k] = hn::Zero(Wide()); });
  }

  template <int k>
  HWY_INLINE void add(Index<k>, hn::Vec<D> difference) {
#if HWY_TARGET == HWY_SCALAR
    add_wide<2 * k>(hn::PromoteTo(Wide(), difference));
#else
    const hn::Half<D> half;
    add_wide<2 * k>(hn::PromoteTo(Wide(), hn::LowerHalf(half, difference)));
    add_wide<2 * k + 1>(hn::PromoteTo(Wide(), hn::UpperHalf(half, difference)));
#endif
  }
  HWY_INLINE void merge(const Squares& other) {
    unrolled<2 * kAccumulators>([&](auto k) MSELOSS_INLINE { sum_[k] = hn::Add(sum_[k], other.sum_[k]); });
  }
  // Of rows of n elements, with `singles` as kSumSingles.
  HWY_INLINE void finish(size_t n, size_t rows, size_t singles, RowSum* row) {
    static_assert(kAccumulators == 4, "the tree of additions");
    WideV pair[kAccumulators];
    unrolled<kAccumulators>([&](auto k) MSELOSS_INLINE { pair[k] = hn::Add(sum_[2 * k], sum_[2 * k + 1]); });
    row->high = sum_of_lanes(hn::Add(hn::Add(pair[0], pair[1]), hn::Add(pair[2], pair[3])));
    row->low = 0;
    // The largest number of additions that affect one term. Per row: one per unrolled iteration and single
    // vector. Then 3 in the tree of accumulators and one per lane.
    const size_t in_row = n / (kAccumulators * hn::Lanes(D())) + singles;
    const size_t additions = rows * in_row + 3 + hn::Lanes(Wide());
    row->error = kUnit * static_cast<double>(additions) * row->high * kSlack;
  }
  // For terms added as Index<0>: calls f(part, high, low, error) for the sums of the lanes, each of the same
  // number of terms; part 0 has those of the lower half of the vectors.
  template <class F>
  HWY_INLINE void columns(const TermCounts& of, const F& f) const {
    const auto relative = hn::Set(Wide(), kUnit * static_cast<double>(of.additions) * kSlack);
    unrolled<kColumnParts>(
        [&](auto k) MSELOSS_INLINE { f(k, sum_[k], hn::Zero(Wide()), hn::Mul(sum_[k], relative)); });
  }

 private:
  template <int k>
  HWY_INLINE void add_wide(WideV d) {
    sum_[k] = hn::MulAdd(d, d, sum_[k]);  // the product is exact, so fused or not is the same
  }

  WideV sum_[2 * kAccumulators];
};

// Adds up the lanes of a double-double sum of terms of float64.
HWY_INLINE void sum_lanes(const PairSums& lanes, RowSum* row) {
  HWY_ALIGN double high[hn::MaxLanes(Wide())], low[hn::MaxLanes(Wide())];
  hn::Store(lanes.high, Wide(), high);
  hn::Store(lanes.low(), Wide(), low);
  row->high = row->low = 0;
  for (size_t i = 0; i < hn::Lanes(Wide()); ++i) {
    row->low += mseloss::two_sum(row->high, high[i], &row->high) + low[i];
  }
  row->may_overflow = true;
}

// Squares of float64 are two doubles each, summed in double-double.
template <int kAccumulators>
class Squares<double, kAccumulators> {
 public:
  using D = Wide;
  static constexpr int kColumnParts = 1;

  HWY_INLINE Squares() {
    unrolled<kAccumulators>([&](auto k) MSELOSS_INLINE { sum_[k] = PairSums::zero(); });
  }

  template <int k>
  HWY_INLINE void add(Index<k>, WideV d) {
    sum_[k].add_square(d);
  }
  HWY_INLINE void merge(const Squares& other) {
    unrolled<kAccumulators>([&](auto k) MSELOSS_INLINE { sum_[k] = PairSums::add(sum_[k], other.sum_[k]); });
  }
  HWY_INLINE void finish(size_t n, size_t rows, size_t singles, RowSum* row) {
    unrolled<kAccumulators - 1>([&](auto k)
                                    MSELOSS_INLINE { sum_[0] = PairSums::add(sum_[0], sum_[k + 1]); });
    sum_lanes(sum_[0], row);
    const size_t lanes = hn::Lanes(Wide());
    const size_t in_row = n / (kAccumulators * lanes) + singles;
    const auto additions = static_cast<double>(rows * in_row + kAccumulators + lanes);
    // Rounding of the low parts, quadratic in the unit roundoff, and what squares lose to underflow.
    row->error =
        (4 * additions * additions * kUnit * kUnit * row->high + static_cast<double>(n * rows) * 0x1p-1072) *
        kSlack;
  }
  template <class F>
  HWY_INLINE void columns(const TermCounts& of, const F& f) const {
    const double additions = static_cast<double>(of.additions) + 4;
    const auto relative = hn::Set(Wide(), 4 * additions * additions * kUnit * kUnit * kSlack);
    const auto underflow = hn::Set(Wide(), static_cast<double>(of.terms) * 0x1p-1072);
    f(Index<0>(), sum_[0].high, sum_[0].low(), hn::MulAdd(sum_[0].high, relative, underflow));
  }

 private:
  PairSums sum_[kAccumulators];
};

// For weights 0 and 1 that stand for a mask: sets the elements that it leaves out to +0. Without a mask no
// weight equals the dropped value, NaN.
template <class D>
class MaskedZero {
 public:
  using V = hn::Vec<D>;
  HWY_INLINE explicit MaskedZero(bool masked)
      : dropped_(hn::Set(D(), masked ? 0 : std::numeric_limits<hn::TFromD<D>>::quiet_NaN())) {}
  HWY_INLINE V operator()(V weight, V value) const {
    return hn::IfThenZeroElse(hn::Eq(weight, dropped_), value);
  }

 private:
  V dropped_;
};

// Whether a lane has its sign bit set.
template <class D>
HWY_INLINE bool any_sign(D, hn::Vec<D> v) {
  const hn::RebindToSigned<D> di;
  return !hn::AllFalse(di, hn::Lt(hn::BitCast(di, v), hn::Zero(di)));
}

// Sums of w * d^2 and of w. Their errors are relative to the sums of the magnitudes, which are the sums
// themselves unless a weight is negative; then a second object has the sums with |w|.
template <class T>
class WeightedSquares;

// In float64, plain sums.
template <>
class WeightedSquares<float> {
 public:
  using D = hn::ScalableTag<float>;
  static constexpr int kHalves = HWY_TARGET == HWY_SCALAR ? 1 : 2;

  HWY_INLINE WeightedSquares() : signs_(hn::Zero(D())) {
    unrolled<kHalves>([&](auto k) MSELOSS_INLINE { sum_[k] = weight_[k] = hn::Zero(Wide()); });
  }

  HWY_INLINE void add(hn::Vec<D> difference, hn::Vec<D> weight) {
    signs_ = hn::Or(signs_, weight);
#if HWY_TARGET == HWY_SCALAR
    add_wide<0>(hn::PromoteTo(Wide(), difference), hn::PromoteTo(Wide(), weight));
#else
    const hn::Half<D> half;
    add_wide<0>(hn::PromoteTo(Wide(), hn::LowerHalf(half, difference)),
                hn::PromoteTo(Wide(), hn::LowerHalf(half, weight)));
    add_wide<1>(hn::PromoteTo(Wide(), hn::UpperHalf(half, difference)),
                hn::PromoteTo(Wide(), hn::UpperHalf(half, weight)));
#endif
  }
  HWY_INLINE bool any_negative() const { return any_sign(D(), signs_); }
  HWY_INLINE void merge(const WeightedSquares& other) {
    signs_ = hn::Or(signs_, other.signs_);
    unrolled<kHalves>([&](auto k) MSELOSS_INLINE {
      sum_[k] = hn::Add(sum_[k], other.sum_[k]);
      weight_[k] = hn::Add(weight_[k], other.weight_[k]);
    });
  }

  HWY_INLINE void finish(size_t n, size_t rows, WeightedRowSum* row) const {
    const auto total = [](const WideV* halves) MSELOSS_INLINE {
      return sum_of_lanes(kHalves == 1 ? halves[0] : hn::Add(halves[0], halves[kHalves - 1]));
    };
    // The largest number of roundings that affect one term: one per vector of a row, head and tail, the sum
    // of the halves and of the lanes, and one for the product where it is not fused with the addition.
    const size_t in_row = n / hn::Lanes(D()) + 2;
    const auto roundings = static_cast<double>(rows * in_row + 2 + hn::Lanes(Wide()));
    const double relative = kUnit * roundings * kSlack, sum = total(sum_), weight = total(weight_);
    row->squares = {sum, 0, relative * sum, false};
    row->weights = {weight, 0, relative * weight, false};
  }
  // Calls f(part, high, low, error, w_high, w_low, w_error) for the sums of the lanes.
  template <class F>
  HWY_INLINE void columns(const TermCounts& of, const WeightedSquares& magnitudes, const F& f) const {
    const auto relative = hn::Set(Wide(), kUnit * static_cast<double>(of.additions + 1) * kSlack);
    unrolled<kHalves>([&](auto k) MSELOSS_INLINE {
      f(k, sum_[k], hn::Zero(Wide()), hn::Mul(magnitudes.sum_[k], relative), weight_[k], hn::Zero(Wide()),
        hn::Mul(magnitudes.weight_[k], relative));
    });
  }

 private:
  template <int k>
  HWY_INLINE void add_wide(WideV d, WideV w) {
    sum_[k] = hn::MulAdd(hn::Mul(d, d), w, sum_[k]);  // the square is exact
    weight_[k] = hn::Add(weight_[k], w);
  }

  WideV sum_[kHalves], weight_[kHalves];
  hn::Vec<D> signs_;
};

// In double-double.
template <>
class WeightedSquares<double> {
 public:
  using D = Wide;

  HWY_INLINE WeightedSquares()
      : sum_(PairSums::zero()), weight_(PairSums::zero()), signs_(hn::Zero(Wide())) {}

  HWY_INLINE void add(WideV d, WideV w) {
    signs_ = hn::Or(signs_, w);
    sum_.add_weighted_square(d, w);
    weight_.add_term(w);
  }
  HWY_INLINE bool any_negative() const { return any_sign(Wide(), signs_); }
  HWY_INLINE void merge(const WeightedSquares& other) {
    signs_ = hn::Or(signs_, other.signs_);
    sum_ = PairSums::add(sum_, other.sum_);
    weight_ = PairSums::add(weight_, other.weight_);
  }

  HWY_INLINE void finish(size_t n, size_t rows, WeightedRowSum* row) const {
    const size_t lanes = hn::Lanes(Wide());
    const size_t in_row = n / lanes + 2;
    const auto roundings = static_cast<double>(rows * in_row + lanes + 4);
    const double relative = 8 * roundings * roundings * kUnit * kUnit * kSlack;
    sum_lanes(sum_, &row->squares);
    sum_lanes(weight_, &row->weights);
    row->squares.error = relative * row->squares.high + underflow(rows * n) * (row->weights.high + 1);
    row->weights.error = relative * row->weights.high;
  }
  template <class F>
  HWY_INLINE void columns(const TermCounts& of, const WeightedSquares& magnitudes, const F& f) const {
    const double roundings = static_cast<double>(of.additions) + 4;
    const auto relative = hn::Set(Wide(), 8 * roundings * roundings * kUnit * kUnit * kSlack);
    const auto lost =
        hn::Mul(hn::Set(Wide(), underflow(of.terms)), hn::Add(magnitudes.weight_.high, hn::Set(Wide(), 1.0)));
    f(Index<0>(), sum_.high, sum_.low(), hn::MulAdd(magnitudes.sum_.high, relative, lost), weight_.high,
      weight_.low(), hn::Mul(magnitudes.weight_.high, relative));
  }

 private:
  // What `terms` products lose to underflow, for weights that add up to 1 or less: the error of the square is
  // multiplied by a weight.
  static HWY_INLINE double underflow(size_t terms) { return static_cast<double>(terms) * 0x1p-1070; }

  PairSums sum_, weight_;
  WideV signs_;
};

// With a mask: the squares of the differences, of which those that it leaves out are 0, and the number of the
// others.
template <class T>
class MaskedSquares {
 public:
  using D = hn::ScalableTag<T>;

  HWY_INLINE MaskedSquares() {}  // not defaulted: that constructor would lack the target's attribute
  template <int k>
  HWY_INLINE void add(Index<k> index, hn::Vec<D> difference, hn::Mask<D> dropped) {
    squares_.add(index, difference);
    selected_ += hn::Lanes(D()) - hn::CountTrue(D(), dropped);
  }
  HWY_INLINE void finish(size_t n, size_t rows, size_t singles, WeightedRowSum* row) {
    squares_.finish(n, rows, singles, &row->squares);
    row->weights.high = static_cast<double>(selected_);
  }

 private:
  Squares<T> squares_;
  uint64_t selected_ = 0;
};

// The sums of a block with the weights' magnitudes. Their errors bound those of the block's sums if a weight
// is negative.
template <class S>
HWY_INLINE WeightedRowSum sum_magnitudes(const RowBlock& block) {
  using T = typename S::Compute;
  const hn::ScalableTag<T> d;
  BroadcastVector<S> x_copies, y_copies, w_copies;
  WeightedSquares<T> squares;
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    const auto w = row_input<S>(block, kWeight, r, &w_copies);
    transform_row<S, Store::kNone, Loop::kSum>(d, nullptr, block.n,
                                               [&, x, y, w](auto, auto load) MSELOSS_INLINE {
                                                 const auto difference = hn::Sub(load(x), load(y));
                                                 squares.add(difference, hn::Abs(load(w)));
                                                 return difference;
                                               });
  }
  WeightedRowSum magnitudes;
  squares.finish(block.n, block.rows, &magnitudes);
  return magnitudes;
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_SQUARES_INL_H_
