// Sums of short rows, each a part of a slice, several rows at a time. Re-included per target.
#if defined(MSELOSS_SHORT_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_SHORT_ROWS_INL_H_
#undef MSELOSS_SHORT_ROWS_INL_H_
#else
#define MSELOSS_SHORT_ROWS_INL_H_
#endif

#include <cstring>

#include "cpu/kernels/lane_sums-inl.h"
#include "cpu/kernels/row_loop-inl.h"
#include "cpu/kernels/slice_accumulators-inl.h"
#include "cpu/kernels/squares-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

HWY_INLINE void prefetch_lines(const void* from, ptrdiff_t ahead, ptrdiff_t bytes) {
  const auto* at = static_cast<const char*>(from) + ahead;
  for (ptrdiff_t i = 0; i < bytes; i += kLineBytes) hwy::Prefetch(at + i);
}

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
// add_short_rows(), without weights, for rows that lie one after the other in memory and have the length of
// kHalves vectors of float64; a vector of float32 is two of those. Leaves the last rows, fewer than a vector
// has lanes, and returns how many it has added.
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
    prefetch_lines(x, kFarPrefetchBytes, static_cast<ptrdiff_t>(group * sizeof(*x)));
    prefetch_lines(y, kFarPrefetchBytes, static_cast<ptrdiff_t>(group * sizeof(*y)));
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

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_SHORT_ROWS_INL_H_
