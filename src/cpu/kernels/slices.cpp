// Fast sums of many slices at once, added to the accumulators of each slice. One object per dtype, like
// elementwise.cpp.
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/slices.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <cmath>
#include <cstring>
#include <new>

#include "cpu/kernels/lanes-inl.h"
#include "cpu/kernels/round_slices-inl.h"
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

constexpr size_t kMaxShortRow = 96;  // elements

// Whether add_short_rows() can sum these rows: of different slices, not broadcast, at least a vector long.
template <class S>
HWY_INLINE bool has_short_rows(const RowBlock& block) {
  return std::is_same_v<typename S::Compute, float> && block.n <= kMaxShortRow &&
         block.n >= hn::Lanes(Wide()) && block.pitch[kLossOut] == 1 && block.strided[kInput] &&
         block.strided[kTarget];
}

#if HWY_TARGET != HWY_SCALAR
// In each block of 16 bytes, the sum of one of a and that of one of b.
HWY_INLINE WideV sum_pairs(WideV a, WideV b) {
  const Wide d;
  return hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
}

// The sum of the halves of a in the lower half, that of b in the upper.
HWY_INLINE WideV sum_halves(WideV a, WideV b) {
  const Wide d;
  return hn::Add(hn::ConcatLowerLower(d, b, a), hn::ConcatUpperUpper(d, b, a));
}
#endif

// The sum of each of as many vectors as a vector has lanes: lane k of the result is that of rows[k]. Cheaper
// than a sum across the lanes of each vector.
HWY_INLINE WideV sum_of_each(const WideV* rows) {
#if HWY_TARGET == HWY_SCALAR
  return rows[0];
#else
  if constexpr (hn::MaxLanes(Wide()) == 2) {
    return sum_pairs(rows[0], rows[1]);
  } else if constexpr (hn::MaxLanes(Wide()) == 4) {
    return sum_halves(sum_pairs(rows[0], rows[1]), sum_pairs(rows[2], rows[3]));
  } else {
    // Rows 0 1 | 0 1 | 4 5 | 4 5 in blocks, then 2 3 | 2 3 | 6 7 | 6 7.
    const auto a = sum_halves(sum_pairs(rows[0], rows[1]), sum_pairs(rows[4], rows[5]));
    const auto b = sum_halves(sum_pairs(rows[2], rows[3]), sum_pairs(rows[6], rows[7]));
    return hn::Add(hn::OddEvenBlocks(b, a), hn::SwapAdjacentBlocks(hn::OddEvenBlocks(a, b)));
  }
#endif
}

// add_rows() for short rows, which take less time than the set-up of its unrolled loop.
template <class S>
void add_short_rows(const RowBlock& block) {
  const Wide wide;
  const hn::Rebind<float, Wide> d;
  using Memory = typename S::Memory;
  const size_t lanes = hn::Lanes(d);
  const size_t end = block.n / lanes * lanes;
  // The last vector overlaps the one before it; these lanes have been added already.
  const auto added = hn::FirstN(d, lanes - (block.n - end));
  // Additions of one term: one per vector, and those of the lanes.
  const size_t additions = block.n / lanes + 1 + lanes;
  const auto relative = hn::Set(Wide(), kUnit * static_cast<double>(additions) * kSlack);
  auto* planes = static_cast<double*>(block.at[kLossOut]);
  const auto* x = static_cast<const Memory*>(block.at[kInput]);
  const auto* y = static_cast<const Memory*>(block.at[kTarget]);
  const auto row_sum = [&]() MSELOSS_INLINE {  // and advance to the next row
    const auto add = [&](auto difference, WideV sum) MSELOSS_INLINE {
      const auto v = hn::PromoteTo(wide, difference);
      return hn::MulAdd(v, v, sum);
    };
    auto sum = hn::Zero(wide);
    for (size_t i = 0; i < end; i += lanes) sum = add(hn::Sub(S::load(d, x + i), S::load(d, y + i)), sum);
    if (end != block.n) {
      const size_t i = block.n - lanes;
      sum = add(hn::IfThenZeroElse(added, hn::Sub(S::load(d, x + i), S::load(d, y + i))), sum);
    }
    x += block.pitch[kInput];
    y += block.pitch[kTarget];
    return sum;
  };
  const auto add_group = [&](size_t first, const WideV* rows) MSELOSS_INLINE {
    const auto high = sum_of_each(rows);
    add_to_slices(high, hn::Zero(wide), hn::Mul(high, relative), planes + first, block.plane);
  };
  constexpr size_t kGroup = hn::MaxLanes(Wide());
  WideV rows[kGroup];
  size_t first = 0;
  for (; first + kGroup <= block.rows; first += kGroup) {
    unrolled<kGroup>([&](auto k) MSELOSS_INLINE { rows[k] = row_sum(); });
    add_group(first, rows);
  }
  if (first == block.rows) return;
  const size_t left = block.rows - first;
  unrolled<kGroup>([&](auto k) MSELOSS_INLINE { rows[k] = k < left ? row_sum() : hn::Zero(wide); });
  add_group(first, rows);
}

// Each row is a part of one slice.
template <class S>
void add_rows(const RowBlock& block) {
  using T = typename S::Compute;
  if constexpr (std::is_same_v<T, float>) {
    if (has_short_rows<S>(block)) return add_short_rows<S>(block);
  }
  auto* planes = static_cast<double*>(block.at[kLossOut]);
  BroadcastVector<S> x_copies, y_copies;
  for (size_t r = 0; r < block.rows; ++r, planes += block.pitch[kLossOut]) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    Squares<T> squares;
    transform_row<S, Store::kNone, Loop::kSum>(hn::ScalableTag<T>(), nullptr, block.n,
                                               [&, x, y](auto k, auto load) MSELOSS_INLINE {
                                                 const auto difference = hn::Sub(load(x), load(y));
                                                 squares.add(k, difference);
                                                 return difference;
                                               });
    RowSum row;
    squares.finish(block.n, 1, &row);
    add_to_slice(row, planes, block.plane);
  }
}

template <class S>
void add_weighted_rows(const RowBlock& block) {
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

template <class S>
void slice_sums(const RowBlock& block) {
  block.strided[kLossOut] ? add_columns<S, false>(block) : add_rows<S>(block);
}

template <class S>
void weighted_slice_sums(const RowBlock& block) {
  block.strided[kLossOut] ? add_columns<S, true>(block) : add_weighted_rows<S>(block);
}

static void fill_slices(Kernels* kernels, bool native_bfloat16) {
  constexpr DType kDType = DType::MSELOSS_KERNEL_DTYPE;
  with_storage<kDType>(native_bfloat16, [&](auto storage) {
    using S = decltype(storage);
    constexpr int i = static_cast<int>(kDType);
    kernels->slice_sums[i][0] = &slice_sums<S>;
    kernels->slice_sums[i][1] = &weighted_slice_sums<S>;
    kernels->round_slices[i] = &round_slices<kDType>;
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
MSELOSS_EXPORT_DTYPE_KERNELS(fill_slices)
#endif
