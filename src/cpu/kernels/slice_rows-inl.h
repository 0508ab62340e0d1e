// Adds the sums of rows, which are parts of slices, to the accumulators of the slices. Re-included per
// target.
#if defined(MSELOSS_SLICE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_SLICE_ROWS_INL_H_
#undef MSELOSS_SLICE_ROWS_INL_H_
#else
#define MSELOSS_SLICE_ROWS_INL_H_
#endif

#include <cmath>
#include <cstring>

#include "cpu/kernels/lanes-inl.h"
#include "cpu/kernels/row_loop-inl.h"
#include "cpu/kernels/squares-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// Adds a row's sum to the planes of one slice: high, low, error.
HWY_INLINE void add_to_slice(const RowSum& row, double* at, ptrdiff_t plane) {
  const double residual = mseloss::two_sum(at[0], row.high, &at[0]);
  const double low = at[plane] + (residual + row.low);
  at[2 * plane] +=
      (row.error + 2 * kUnit * (std::fabs(low) + std::fabs(residual) + std::fabs(row.low))) * kSlack;
  at[plane] = low;
}

// The same for the sums of a vector of slices.
HWY_INLINE void add_to_slices(WideV high, WideV low, WideV error, double* at, ptrdiff_t plane) {
  const Wide d;
  auto total = hn::LoadU(d, at);
  const auto residual = two_sum(total, high, &total);
  const auto total_low = hn::Add(hn::LoadU(d, at + plane), hn::Add(residual, low));
  const auto magnitudes = hn::Add(hn::Add(hn::Abs(total_low), hn::Abs(residual)), hn::Abs(low));
  const auto more = hn::Mul(hn::MulAdd(magnitudes, hn::Set(d, 2 * kUnit), error), hn::Set(d, kSlack));
  hn::StoreU(total, d, at);
  hn::StoreU(total_low, d, at + plane);
  hn::StoreU(hn::Add(hn::LoadU(d, at + 2 * plane), more), d, at + 2 * plane);
}

// The same, or writes them where nothing has been added before.
HWY_INLINE void put_slices(const RowBlock& block, WideV high, WideV low, WideV error, double* at) {
  if (!block.whole_slices) return add_to_slices(high, low, error, at, block.plane);
  const Wide d;
  hn::StoreU(high, d, at);
  hn::StoreU(low, d, at + block.plane);
  hn::StoreU(error, d, at + 2 * block.plane);
}

#if HWY_TARGET != HWY_SCALAR
// In each block of 16 bytes, the sum of one of a and that of one of b.
template <class V>
HWY_INLINE V sum_pairs(const V& a, const V& b) {
  const Wide d;
  const auto lower = [=](WideV p, WideV q) MSELOSS_INLINE { return hn::InterleaveLower(d, p, q); };
  const auto upper = [=](WideV p, WideV q) MSELOSS_INLINE { return hn::InterleaveUpper(d, p, q); };
  return V::add(V::combine(lower, a, b), V::combine(upper, a, b));
}

// The sum of the halves of a in the lower half, that of b in the upper.
template <class V>
HWY_INLINE V sum_halves(const V& a, const V& b) {
  const Wide d;
  const auto lower = [=](WideV p, WideV q) MSELOSS_INLINE { return hn::ConcatLowerLower(d, q, p); };
  const auto upper = [=](WideV p, WideV q) MSELOSS_INLINE { return hn::ConcatUpperUpper(d, q, p); };
  return V::add(V::combine(lower, a, b), V::combine(upper, a, b));
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
    return V::add(V::combine(keep, a, b), V::combine(swap, a, b));
  }
#endif
}

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

// In double-double, for terms of float64.
struct PairSums {
  WideV high, low_part;

  HWY_INLINE PairSums() {}
  HWY_INLINE PairSums(WideV of_high, WideV of_low) : high(of_high), low_part(of_low) {}
  static HWY_INLINE PairSums zero() { return {hn::Zero(Wide()), hn::Zero(Wide())}; }
  HWY_INLINE WideV low() const { return low_part; }
  HWY_INLINE void add_square(WideV v) {
    const auto square = hn::Mul(v, v);
    const auto residual = two_sum(high, square, &high);
    low_part = hn::Add(low_part, hn::Add(residual, product_error(v, v, square)));
  }
  HWY_INLINE void add_weighted_square(WideV v, WideV w) {
    const auto square = hn::Mul(v, v), term = hn::Mul(square, w);
    const auto term_low = hn::MulAdd(product_error(v, v, square), w, product_error(square, w, term));
    const auto residual = two_sum(high, term, &high);
    low_part = hn::Add(low_part, hn::Add(residual, term_low));
  }
  HWY_INLINE void add_term(WideV v) { low_part = hn::Add(low_part, two_sum(high, v, &high)); }
  static HWY_INLINE PairSums add(const PairSums& a, const PairSums& b) {
    PairSums sum;
    const auto residual = two_sum(a.high, b.high, &sum.high);
    sum.low_part = hn::Add(hn::Add(a.low_part, b.low_part), residual);
    return sum;
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

// The rows of an input in vectors of as many elements as D has lanes. A row that is shorter than a vector is
// padded with zeros.
template <class S, class D>
class ShortRows {
 public:
  using Memory = typename S::Memory;

  HWY_INLINE ShortRows(const RowBlock& block, int operand)
      : first_(static_cast<const Memory*>(block.at[operand])),
        pitch_(block.pitch[operand]),
        mask_(block.strided[operand] ? ~size_t{0} : 0),
        n_(block.n) {}

  HWY_INLINE void begin(size_t r) {
    from_ = row(r);
    if (HWY_LIKELY(mask_ != 0 && n_ >= hn::Lanes(D()))) return;
    const size_t count = HWY_MIN(n_, hn::Lanes(D()));
    for (size_t i = 0; i < count; ++i) std::memcpy(padded_ + i, from_ + (i & mask_), sizeof(Memory));
    from_ = padded_;
  }
  HWY_INLINE hn::Vec<D> load(size_t i) const { return S::load(D(), from_ + (i & mask_)); }
  // Some way ahead of row r, the cache lines of `count` rows, without those in longer gaps between rows.
  HWY_INLINE void prefetch(size_t r, size_t count) const {
    if (mask_ == 0) return;
    const auto size = static_cast<ptrdiff_t>(sizeof(Memory)), bytes = static_cast<ptrdiff_t>(n_) * size;
    if (HWY_LIKELY(pitch_ >= 0 && pitch_ * size <= bytes + kLineBytes)) {
      return prefetch_lines(row(r), kFarPrefetchBytes, static_cast<ptrdiff_t>(count) * pitch_ * size);
    }
    const size_t ahead = kFarPrefetchBytes / static_cast<size_t>(bytes);
    for (size_t k = r + ahead; k < r + ahead + count; ++k) prefetch_lines(row(k), 0, bytes);
  }

 private:
  HWY_INLINE const Memory* row(size_t r) const { return first_ + static_cast<ptrdiff_t>(r) * pitch_; }
  static HWY_INLINE void prefetch_lines(const Memory* from, ptrdiff_t ahead, ptrdiff_t bytes) {
    const auto* at = reinterpret_cast<const char*>(from) + ahead;
    for (ptrdiff_t i = 0; i < bytes; i += kLineBytes) hwy::Prefetch(at + i);
  }

  const Memory* first_;
  const Memory* from_ = nullptr;
  ptrdiff_t pitch_;
  size_t mask_;
  size_t n_;
  HWY_ALIGN Memory padded_[hn::MaxLanes(D())] = {};
};

constexpr size_t kMaxShortRow = 192;  // elements

// Whether add_short_rows() can sum these rows: of slices that follow each other.
template <class S>
HWY_INLINE bool has_short_rows(const RowBlock& block) {
  return block.n <= kMaxShortRow && block.pitch[kLossOut] == 1;
}

#if HWY_TARGET != HWY_SCALAR
// The first rows of add_short_rows(), without weights, of kHalves vectors of float64 each and one after the
// other in memory: a vector of float32 has two of those. Returns how many rows it has added.
template <class S, int kHalves>
size_t add_even_rows(const RowBlock& block) {
  const hn::ScalableTag<float> d;
  const hn::Half<decltype(d)> half;
  constexpr size_t kGroup = hn::MaxLanes(Wide());
  const size_t group = kGroup * block.n;  // elements
  const auto relative =
      SingleSums::error(hn::Set(Wide(), 1.0), block.n, kHalves + 2 + hn::Lanes(Wide()), hn::Zero(Wide()));
  const auto* x = static_cast<const typename S::Memory*>(block.at[kInput]);
  const auto* y = static_cast<const typename S::Memory*>(block.at[kTarget]);
  auto* planes = static_cast<double*>(block.at[kLossOut]);
  size_t r = 0;
  for (; r + kGroup <= block.rows; r += kGroup, planes += kGroup, x += group, y += group) {
    for (size_t i = 0; i < group * sizeof(*x); i += kLineBytes) {
      hwy::Prefetch(reinterpret_cast<const char*>(x) + kFarPrefetchBytes + i);
      hwy::Prefetch(reinterpret_cast<const char*>(y) + kFarPrefetchBytes + i);
    }
    SingleSums rows[kGroup];
    unrolled<kGroup>([&](auto k) MSELOSS_INLINE { rows[k] = SingleSums::zero(); });
    unrolled<kGroup * kHalves / 2>([&](auto k) MSELOSS_INLINE {
      const size_t at = k * hn::Lanes(d);
      const auto difference = hn::Sub(S::load(d, x + at), S::load(d, y + at));
      rows[2 * k / kHalves].add_square(hn::PromoteTo(Wide(), hn::LowerHalf(half, difference)));
      rows[(2 * k + 1) / kHalves].add_square(hn::PromoteTo(Wide(), hn::UpperHalf(half, difference)));
    });
    const auto sum = sum_of_each(rows).high;
    put_slices(block, sum, hn::Zero(Wide()), hn::Mul(sum, relative), planes);
  }
  return r;
}
#endif

template <class S>
HWY_INLINE size_t add_even_rows([[maybe_unused]] const RowBlock& block) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<typename S::Compute, float>) {
    const auto n = static_cast<ptrdiff_t>(block.n);
    if (!block.strided[kInput] || !block.strided[kTarget]) return 0;
    if (block.pitch[kInput] != n || block.pitch[kTarget] != n) return 0;
    const size_t lanes = hn::Lanes(Wide());
    if (block.n == lanes) return add_even_rows<S, 1>(block);
    if (block.n == 2 * lanes) return add_even_rows<S, 2>(block);
    if (block.n == 4 * lanes) return add_even_rows<S, 4>(block);
  }
#endif
  return 0;
}

// add_rows() for short rows, which take less time than the set-up of its unrolled loop.
template <class S, bool kWeighted>
void add_short_rows(const RowBlock& block) {
  using T = typename S::Compute;
  using Sums = std::conditional_t<std::is_same_v<T, float>, SingleSums, PairSums>;
  using D = hn::Rebind<T, Wide>;
  const D d;
  const size_t lanes = hn::Lanes(d), n = block.n;
  const size_t end = n / lanes * lanes, last = n < lanes ? 0 : n - lanes;
  const auto repeated = hn::FirstN(d, n < lanes ? 0 : lanes - (n - end));  // lanes of the last vector
  const MaskedZero<D> drop(block.masked);
  // One addition for each vector, those of the lanes and, where it is not fused, the product.
  const size_t roundings = n / lanes + 2 + lanes;
  auto* const planes = static_cast<double*>(block.at[kLossOut]);
  ShortRows<S, D> x(block, kInput), y(block, kTarget), w(block, kWeighted ? kWeight : kInput);
  struct Row {
    Sums squares, weights;
    hn::Vec<D> signs;
  };
  const auto row_sums = [&](size_t r, [[maybe_unused]] auto magnitudes) MSELOSS_INLINE {
    x.begin(r);
    y.begin(r);
    if constexpr (kWeighted) w.begin(r);
    Row row{Sums::zero(), Sums::zero(), hn::Zero(d)};
    const auto add = [&](auto difference, [[maybe_unused]] auto weight) MSELOSS_INLINE {
      if constexpr (kWeighted) {
        difference = drop(weight, difference);
        row.signs = hn::Or(row.signs, weight);
        if constexpr (magnitudes()) weight = hn::Abs(weight);
        const auto wide_weight = widen(weight);
        row.squares.add_weighted_square(widen(difference), wide_weight);
        row.weights.add_term(wide_weight);
      } else {
        row.squares.add_square(widen(difference));
      }
    };
    const auto weight = [&](size_t i) MSELOSS_INLINE {
      if constexpr (kWeighted) return w.load(i);
      return hn::Zero(d);
    };
    for (size_t i = 0; i < end; i += lanes) add(hn::Sub(x.load(i), y.load(i)), weight(i));
    if (end != n) {
      add(hn::IfThenZeroElse(repeated, hn::Sub(x.load(last), y.load(last))),
          hn::IfThenZeroElse(repeated, weight(last)));
    }
    return row;
  };
  constexpr size_t kGroup = hn::MaxLanes(Wide());
  const auto group_sums = [&](size_t first, size_t count, auto magnitudes) MSELOSS_INLINE {
    Sums squares[kGroup], weights[kGroup];
    auto signs = hn::Zero(d);
    unrolled<kGroup>([&](auto k) MSELOSS_INLINE {
      const Row row =
          k < count ? row_sums(first + k, magnitudes) : Row{Sums::zero(), Sums::zero(), hn::Zero(d)};
      squares[k] = row.squares;
      weights[k] = row.weights;
      signs = hn::Or(signs, row.signs);
    });
    return Row{sum_of_each(squares), kWeighted ? sum_of_each(weights) : Sums::zero(), signs};
  };
  size_t first = 0;
  if constexpr (!kWeighted) first = add_even_rows<S>(block);
  for (; first < block.rows; first += kGroup) {
    const size_t count = HWY_MIN(kGroup, block.rows - first);
    x.prefetch(first, kGroup);
    y.prefetch(first, kGroup);
    const Row sums = HWY_LIKELY(count == kGroup) ? group_sums(first, kGroup, std::false_type())
                                                 : group_sums(first, count, std::false_type());
    WideV magnitude = sums.squares.high, weight_magnitude = sums.weights.high;
    if (kWeighted && HWY_UNLIKELY(any_sign(d, sums.signs))) {
      const Row magnitudes = group_sums(first, count, std::true_type());
      magnitude = magnitudes.squares.high;
      weight_magnitude = magnitudes.weights.high;
    }
    double* const at = planes + first;
    put_slices(block, sums.squares.high, sums.squares.low(),
               Sums::error(magnitude, n, roundings, weight_magnitude), at);
    if constexpr (kWeighted) {
      put_slices(block, sums.weights.high, sums.weights.low(),
                 Sums::error(weight_magnitude, n, roundings, weight_magnitude), at + 3 * block.plane);
    }
  }
}

// Each row is a part of one slice. With a store also the gradient, with one grad_output for each row.
template <class S, Store kStore>
void add_rows(const RowBlock& block) {
  using T = typename S::Compute;
  if constexpr (kStore == Store::kNone) {
    if (has_short_rows<S>(block)) return add_short_rows<S, false>(block);
  }
  const hn::ScalableTag<T> d;
  auto* planes = static_cast<double*>(block.at[kLossOut]);
  BroadcastVector<S> x_copies, y_copies;
  [[maybe_unused]] const auto scale = hn::Set(d, static_cast<T>(block.scale));
  for (size_t r = 0; r < block.rows; ++r, planes += block.pitch[kLossOut]) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    Squares<T> squares;
    if constexpr (kStore == Store::kNone) {
      transform_row<S, kStore, Loop::kSum>(d, nullptr, block.n, [&, x, y](auto k, auto load) MSELOSS_INLINE {
        const auto difference = hn::Sub(load(x), load(y));
        squares.add(k, difference);
        return difference;
      });
    } else {
      BroadcastVector<S> g_copies;
      const auto g = row_input<S>(block, kGradOutput, r, &g_copies).load(d, 0);
      transform_row<S, kStore, Loop::kSum>(d, output_row<S>(block, r), block.n,
                                           [&, x, y](auto k, auto load) MSELOSS_INLINE {
                                             const auto difference = hn::Sub(load(x), load(y));
                                             squares.add(k, difference);
                                             return hn::Mul(hn::Mul(difference, scale), g);
                                           });
    }
    RowSum row;
    squares.finish(block.n, 1, kSumSingles<S, kStore>, &row);
    add_to_slice(row, planes, block.plane);
  }
}

template <class S>
void add_weighted_rows(const RowBlock& block) {
  if (has_short_rows<S>(block)) return add_short_rows<S, true>(block);
  using T = typename S::Compute;
  const hn::ScalableTag<T> d;
  const MaskedZero<decltype(d)> drop(block.masked);
  auto* planes = static_cast<double*>(block.at[kLossOut]);
  BroadcastVector<S> x_copies, y_copies, w_copies;
  for (size_t r = 0; r < block.rows; ++r, planes += block.pitch[kLossOut]) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    const auto w = row_input<S>(block, kWeight, r, &w_copies);
    WeightedSquares<T> squares;
    transform_row<S, Store::kNone, Loop::kSum>(
        d, nullptr, block.n, [&, x, y, w](auto, auto load) MSELOSS_INLINE {
          const auto weight = load(w), difference = drop(weight, hn::Sub(load(x), load(y)));
          squares.add(difference, weight);
          return difference;
        });
    WeightedRowSum row;
    squares.finish(block.n, 1, &row);
    if (squares.any_negative()) {
      RowBlock one = block;
      one.rows = 1;
      for (const int o : {kInput, kTarget, kWeight}) {
        one.at[o] =
            static_cast<typename S::Memory*>(block.at[o]) + static_cast<ptrdiff_t>(r) * block.pitch[o];
      }
      const WeightedRowSum magnitudes = sum_magnitudes<S>(one);
      row.squares.error = magnitudes.squares.error;
      row.weights.error = magnitudes.weights.error;
    }
    add_to_slice(row.squares, planes, block.plane);
    add_to_slice(row.weights, planes + 3 * block.plane, block.plane);
  }
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_SLICE_ROWS_INL_H_
