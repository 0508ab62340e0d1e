// Fast sums of many slices at once, added to the accumulators of each slice. One object per dtype, like
// elementwise.cpp.
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/slices.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "cpu/kernels/round_slices-inl.h"
#include "cpu/kernels/slice_columns-inl.h"
#include "cpu/kernels/slice_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

template <class S>
void slice_sums(const RowBlock& block) {
  block.strided[kLossOut] ? add_columns<S, false>(block) : add_rows<S, Store::kNone>(block);
}

template <class S>
void weighted_slice_sums(const RowBlock& block) {
  block.strided[kLossOut] ? add_columns<S, true>(block) : add_weighted_rows<S>(block);
}

template <class S, Store kStore>
bool grad_and_slice_sums(const RowBlock& block) {
  if (block.strided[kLossOut]) return Columns<S, false, kStore>(block).run();
  if (block.strided[kGradOutput] || block.n <= kMaxShortRow) return false;
  add_rows<S, kStore>(block);
  return true;
}

static void fill_slices(Kernels* kernels, bool native_bfloat16) {
  constexpr DType kDType = DType::MSELOSS_KERNEL_DTYPE;
  with_storage<kDType>(native_bfloat16, [&](auto storage) {
    using S = decltype(storage);
    constexpr int i = static_cast<int>(kDType);
    kernels->slice_sums[i][0] = &slice_sums<S>;
    kernels->slice_sums[i][1] = &weighted_slice_sums<S>;
    kernels->grad_and_slice_sums[i][0] = &grad_and_slice_sums<S, Store::kCached>;
    kernels->grad_and_slice_sums[i][1] = &grad_and_slice_sums<S, Store::kNonTemporal>;
    kernels->round_slices[i][0] = &round_slices<kDType, S, false>;
    kernels->round_slices[i][1] = &round_slices<kDType, S, true>;
    if constexpr (std::is_same_v<typename S::Memory, typename S::Compute>) {
      kernels->slice_scales[i] = &slice_scales<kDType, S>;
    }
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
MSELOSS_EXPORT_DTYPE_KERNELS(fill_slices)
#endif
