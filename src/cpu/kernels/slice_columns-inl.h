// Adds the sums of columns, which are parts of slices, to the accumulators of the slices. Re-included per target.
#if defined(MSELOSS_SLICE_COLUMNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_SLICE_COLUMNS_INL_H_
#undef MSELOSS_SLICE_COLUMNS_INL_H_
#else
#define MSELOSS_SLICE_COLUMNS_INL_H_
#endif

#include <cstring>
#include <new>

#include "cpu/kernels/slice_rows-inl.h"


HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// `count` elements of row r from column j on, padded with zeros.
template <class S, class D>
HWY_INLINE hn::Vec<D> load_columns(D d, const RowBlock& block, int operand, size_t r, size_t j,
                                   size_t count) {
  using Memory = typename S::Memory;
  const Memory* row =
      static_cast<const Memory*>(block.at[operand]) + static_cast<ptrdiff_t>(r) * block.pitch[operand];
  if (HWY_LIKELY(block.strided[operand] && count == hn::Lanes(d))) return S::load(d, row + j);
  HWY_ALIGN Memory elements[kMaxVector<S>] = {};
  // Copied by bytes, because no alignment is assumed.
  if (block.strided[operand]) {
    std::memcpy(elements, row + j, count * sizeof(Memory));
  } else {
    for (size_t i = 0; i < count; ++i) std::memcpy(elements + i, row, sizeof(Memory));
  }
  return S::load(d, elements);
}

// Each column is a part of one slice. Wide rows are read one after the other, as they lie in memory; the sums
// of their columns are in L1 then. Those of narrow rows stay in registers.
template <class S, bool kWeighted>
void add_columns(const RowBlock& block) {
  using T = typename S::Compute;
  using Sums = std::conditional_t<kWeighted, WeightedSquares<T>, Squares<T, 1>>;
  constexpr size_t kWideRow = 512, kSumBytes = 8192, kVectors = kSumBytes / sizeof(Sums);
  const hn::ScalableTag<T> d;
  const MaskedZero<decltype(d)> drop(block.masked);
  const size_t lanes = hn::Lanes(d), wide_lanes = hn::Lanes(Wide());
  // Rows that belong to the same slices are summed together, others one by one.
  const size_t together = block.pitch[kLossOut] == 0 ? block.rows : 1;
  const bool wide = block.n * sizeof(typename S::Memory) >= kWideRow;
  const auto add = [&](Sums* sums, auto x, auto y, [[maybe_unused]] auto weight,
                       [[maybe_unused]] auto magnitude) MSELOSS_INLINE {
    if constexpr (kWeighted) {
      sums->add(drop(weight, hn::Sub(x, y)), magnitude() ? hn::Abs(weight) : weight);
    } else {
      sums->add(Index<0>(), hn::Sub(x, y));
    }
  };
  // One vector of a row, at column j.
  const auto add_vector = [&](Sums* sums, size_t r, size_t j, auto magnitude) MSELOSS_INLINE {
    const size_t count = HWY_MIN(lanes, block.n - j);
    const auto load = [&](int operand)
                          MSELOSS_INLINE { return load_columns<S>(d, block, operand, r, j, count); };
    add(sums, load(kInput), load(kTarget), kWeighted ? load(kWeight) : hn::Zero(d), magnitude);
  };
  // The full vectors of columns j to end of a row.
  BroadcastVector<S> x_copies, y_copies, w_copies;
  const auto add_vectors = [&](Sums* sums, size_t r, size_t j, size_t end) MSELOSS_INLINE {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    const auto w = kWeighted ? row_input<S>(block, kWeight, r, &w_copies) : x;
    // Hardware prefetchers do not follow from one row to the next.
    const auto next = [&](int o) {
      return static_cast<const char*>(block.at[o]) +
             static_cast<ptrdiff_t>((r + 1) * sizeof(typename S::Memory)) * block.pitch[o];
    };
    const char *const next_x = next(kInput), *const next_y = next(kTarget);
    for (; j < end; j += lanes, ++sums) {
      hwy::Prefetch(next_x + j * sizeof(typename S::Memory));
      hwy::Prefetch(next_y + j * sizeof(typename S::Memory));
      Sums own = *sums;
      add(&own, x.load(d, j), y.load(d, j), w.load(d, j), std::false_type());
      *sums = own;
    }
  };
  const auto finish = [&](const Sums& sums, size_t first, size_t j) MSELOSS_INLINE {
    double* planes =
        static_cast<double*>(block.at[kLossOut]) + static_cast<ptrdiff_t>(first) * block.pitch[kLossOut] + j;
    if constexpr (kWeighted) {
      Sums magnitudes = sums;
      if (HWY_UNLIKELY(sums.any_negative())) {
        magnitudes = Sums();
        for (size_t r = first; r < first + together; ++r) add_vector(&magnitudes, r, j, std::true_type());
      }
      sums.columns(together, magnitudes,
                   [&](auto part, auto high, auto low, auto error, auto w_high, auto w_low, auto w_error)
                       MSELOSS_INLINE {
                         double* at = planes + part() * wide_lanes;
                         add_to_slices(high, low, error, at, block.plane);
                         add_to_slices(w_high, w_low, w_error, at + 3 * block.plane, block.plane);
                       });
    } else {
      sums.columns(together, [&](auto part, auto high, auto low, auto error) MSELOSS_INLINE {
        add_to_slices(high, low, error, planes + part() * wide_lanes, block.plane);
      });
    }
  };
  alignas(Sums) unsigned char memory[kVectors * sizeof(Sums)];
  for (size_t first = 0; first < block.rows; first += together) {
    for (size_t j = 0; j < block.n; j += kVectors * lanes) {
      const size_t vectors = HWY_MIN(kVectors, (block.n - j + lanes - 1) / lanes);
      auto* const sums = new (memory) Sums();
      for (size_t v = 1; v < vectors; ++v) new (memory + v * sizeof(Sums)) Sums();
      const size_t full = wide ? HWY_MIN(vectors, (block.n - j) / lanes) : 0;
      for (size_t r = first; wide && r < first + together; ++r) add_vectors(sums, r, j, j + full * lanes);
      for (size_t v = full; v < vectors; ++v) {
        Sums own = sums[v];
        for (size_t r = first; r < first + together; ++r) {
          add_vector(&own, r, j + v * lanes, std::false_type());
        }
        sums[v] = own;
      }
      for (size_t v = 0; v < vectors; ++v) finish(sums[v], first, j + v * lanes);
    }
  }
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_SLICE_COLUMNS_INL_H_
