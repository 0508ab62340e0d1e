// Adds to the accumulators of slices (RowBlock::plane). Re-included per target.
#if defined(MSELOSS_SLICE_ACCUMULATORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MSELOSS_SLICE_ACCUMULATORS_INL_H_
#undef MSELOSS_SLICE_ACCUMULATORS_INL_H_
#else
#define MSELOSS_SLICE_ACCUMULATORS_INL_H_
#endif

#include <cmath>

#include "cpu/kernels/exact_block-inl.h"
#include "cpu/kernels/kernels.h"

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

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // MSELOSS_SLICE_ACCUMULATORS_INL_H_
