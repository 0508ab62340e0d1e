// Adds the sums of rows, which are parts of slices, to the accumulators of the slices. Re-included per
// target.
#if defined(MSELOSS_SLICE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_SLICE_ROWS_INL_H_
#undef MSELOSS_SLICE_ROWS_INL_H_
#else
#define MSELOSS_SLICE_ROWS_INL_H_
#endif

#include "cpu/kernels/row_loop-inl.h"
#include "cpu/kernels/short_rows-inl.h"
#include "cpu/kernels/slice_accumulators-inl.h"
#include "cpu/kernels/squares-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

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
