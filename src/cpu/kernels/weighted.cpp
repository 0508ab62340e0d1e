// The kernels with a weight for each element, or a mask: gradient, elementwise loss, fast and exact sums.
// docs/numerics.md has the proofs. One object per dtype, like elementwise.cpp.
//
// A mask reaches the kernels as bytes or, for slices, as weights 0 and 1 (RowBlock::masked). Elements that it
// leaves out are dropped: their difference and their results become +0, also where the difference is NaN. The
// weight of the others is 1.
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/weighted.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <cmath>

#include "cpu/kernels/exact_block-inl.h"
#include "cpu/kernels/lanes-inl.h"
#include "cpu/kernels/row_loop-inl.h"
#include "cpu/kernels/squares-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

// One scale for all elements of a row.
template <class V>
struct UniformScale {
  V value;
  template <size_t, class P, class D>
  HWY_INLINE V load_part(P, D, size_t, size_t) const {
    return value;
  }
  template <class P, class D>
  HWY_INLINE V load_tail_part(P, D, size_t, size_t) const {
    return value;
  }
};

// One for each element, for vectors of a single part. There is memory for a full vector past the last.
template <class T>
struct ScaleRow {
  const T* from;
  template <size_t, class D>
  HWY_INLINE hn::Vec<D> load_part(Index<0>, D d, size_t i, size_t k) const {
    return hn::LoadU(d, from + i + k * hn::Lanes(d));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> load_tail_part(Index<0>, D d, size_t i, size_t) const {
    return hn::LoadU(d, from + i);
  }
};

// scale_of(r) is the scale of row `r`.
template <class S, Store kStore, bool kMasked, class F>
HWY_INLINE void scaled_grad(const RowBlock& block, const F& scale_of) {
  const hn::ScalableTag<typename S::Compute> d;
  [[maybe_unused]] const MaskedZero<decltype(d)> drop(block.masked);
  BroadcastVector<S> g_copies, x_copies, y_copies;
  BroadcastVector<WeightStorage<S, kMasked>> w_copies;
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    const auto w = row_input<WeightStorage<S, kMasked>>(block, kWeight, r, &w_copies);
    const auto g = row_input<S>(block, kGradOutput, r, &g_copies);
    const auto scale = scale_of(r);
    transform_row<S, kStore, Loop::kRow>(
        d, output_row<S>(block, r), block.n, [=](auto, auto load) MSELOSS_INLINE {
          const auto scaled = hn::Mul(hn::Sub(load(x), load(y)), load(scale));
          if constexpr (kMasked) {
            return hn::IfThenZeroElse(load(w), hn::Mul(scaled, load(g)));
          } else {
            const auto weight = load(w);
            return drop(weight, hn::Mul(scaled, hn::Mul(weight, load(g))));
          }
        });
  }
}

template <class S, Store kStore, bool kMasked>
void weighted_grad(const RowBlock& block) {
  using T = typename S::Compute;
  const hn::ScalableTag<T> d;
  const UniformScale<hn::Vec<decltype(d)>> scale{hn::Set(d, static_cast<T>(block.scale))};
  scaled_grad<S, kStore, kMasked>(block, [=](size_t) MSELOSS_INLINE { return scale; });
}

template <class S, Store kStore>
void slice_grad(const RowBlock& block) {
  using T = typename S::Compute;
  const hn::ScalableTag<T> d;
  const auto row = [&](size_t r) MSELOSS_INLINE {
    return static_cast<const T*>(block.at[kLossOut]) + static_cast<ptrdiff_t>(r) * block.pitch[kLossOut];
  };
  if (block.strided[kLossOut]) {
    // A single part has no non-temporal stores.
    using Single = std::conditional_t<S::kParts == 1, S, SinglePart<S>>;
    constexpr Store kSingleStore = S::kParts == 1 ? kStore : Store::kCached;
    scaled_grad<Single, kSingleStore, false>(block,
                                             [&](size_t r) MSELOSS_INLINE { return ScaleRow<T>{row(r)}; });
  } else {
    scaled_grad<S, kStore, false>(block, [&](size_t r) MSELOSS_INLINE {
      return UniformScale<hn::Vec<decltype(d)>>{hn::Set(d, *row(r))};
    });
  }
}

template <class S, bool kMasked>
void weighted_loss(const RowBlock& block) {
  const hn::ScalableTag<typename S::Compute> d;
  BroadcastVector<S> x_copies, y_copies;
  BroadcastVector<WeightStorage<S, kMasked>> w_copies;
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    const auto w = row_input<WeightStorage<S, kMasked>>(block, kWeight, r, &w_copies);
    transform_row<S, Store::kCached, Loop::kRow>(
        d, output_row<S>(block, r), block.n, [=](auto, auto load) MSELOSS_INLINE {
          const auto difference = hn::Sub(load(x), load(y)), square = hn::Mul(difference, difference);
          if constexpr (kMasked) {
            return hn::IfThenZeroElse(load(w), square);
          } else {
            return hn::Mul(square, load(w));
          }
        });
  }
}

// The sums and, if it is stored, the gradient with one grad_output for all elements.
template <class S, Store kStore, bool kMasked>
void weighted_sum(const RowBlock& block, WeightedRowSum* out) {
  using T = typename S::Compute;
  const hn::ScalableTag<T> d;
  BroadcastVector<S> x_copies, y_copies;
  BroadcastVector<WeightStorage<S, kMasked>> w_copies;
  auto scale = hn::Zero(d), g = scale;
  if constexpr (kStore != Store::kNone) {
    BroadcastVector<S> g_copies;
    scale = hn::Set(d, static_cast<T>(block.scale));
    g = row_input<S>(block, kGradOutput, 0, &g_copies).load(d, 0);
  }
  std::conditional_t<kMasked, MaskedSquares<T>, WeightedSquares<T>> squares;
  // A gradient in place overwrites its operand, so the magnitudes are summed first.
  [[maybe_unused]] const auto overwrites = [&](int o) { return block.at[kOut] == block.at[o]; };
  [[maybe_unused]] bool in_place = false;
  [[maybe_unused]] WeightedRowSum magnitudes;
  if constexpr (kStore != Store::kNone && !kMasked) {
    in_place = overwrites(kInput) || overwrites(kTarget) || overwrites(kWeight);
    if (in_place) magnitudes = sum_magnitudes<S>(block);
  }
  for (size_t r = 0; r < block.rows; ++r) {
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    const auto w = row_input<WeightStorage<S, kMasked>>(block, kWeight, r, &w_copies);
    void* to = kStore == Store::kNone ? nullptr : output_row<S>(block, r);
    transform_row<S, kStore, Loop::kSum>(
        d, to, block.n, [&, x, y, w]([[maybe_unused]] auto k, auto load) MSELOSS_INLINE {
          if constexpr (kMasked) {
            const auto dropped = load(w);
            const auto difference = hn::IfThenZeroElse(dropped, hn::Sub(load(x), load(y)));
            squares.add(k, difference, dropped);
            if constexpr (kStore == Store::kNone) return difference;
            return hn::IfThenZeroElse(dropped, hn::Mul(hn::Mul(difference, scale), g));
          } else {
            const auto weight = load(w), difference = hn::Sub(load(x), load(y));
            squares.add(difference, weight);
            if constexpr (kStore == Store::kNone) return difference;
            return hn::Mul(hn::Mul(difference, scale), hn::Mul(weight, g));
          }
        });
  }
  if constexpr (kMasked) {
    squares.finish(block.n, block.rows, kSumSingles<S, kStore>, out);
  } else {
    squares.finish(block.n, block.rows, out);
    if (squares.any_negative()) {
      if (!in_place) magnitudes = sum_magnitudes<S>(block);
      out->squares.error = magnitudes.squares.error;
      out->weights.error = magnitudes.weights.error;
    }
  }
}

// Elements one by one, as integers.
static void add_elements(const double* differences, const double* weights, size_t n, ExactSums* sums) {
  FixedPoint squares(sums->limbs), total(sums->limbs + FixedPoint::kLimbs);
  for (size_t i = 0; i < n; ++i) {
    const double d = differences[i], w = weights[i];
    if (std::isfinite(d) && std::isfinite(w)) {
      squares.add_product(w, d);
    } else {
      sums->special += w * std::fabs(d);
    }
    if (sums->masked) continue;
    if (std::isfinite(w)) {
      total.add(w);
    } else {
      sums->weight_special += w;
    }
  }
}

template <class S, bool kMasked>
void weighted_exact_sum(const RowBlock& block, ExactSums* sums) {
  using T = typename S::Compute;
  const hn::Rebind<T, Wide> d;
  const Wide wide;
  const size_t lanes = hn::Lanes(wide);
  [[maybe_unused]] const MaskedZero<decltype(d)> drop(block.masked);
  BroadcastVector<S> x_copies, y_copies;
  BroadcastVector<WeightStorage<S, kMasked>> w_copies;
  FixedPoint squares(sums->limbs), total(sums->limbs + FixedPoint::kLimbs);
  HWY_ALIGN double differences[kExactBlock], weights[kExactBlock], terms[kExactBlock], errors[kExactBlock];
  const size_t parts = (block.n + kExactBlock - 1) / kExactBlock;
  for (size_t part = 0; part < block.rows * parts; ++part) {
    const size_t r = part / parts, first = part % parts * kExactBlock;
    const auto x = row_input<S>(block, kInput, r, &x_copies), y = row_input<S>(block, kTarget, r, &y_copies);
    const auto w = row_input<WeightStorage<S, kMasked>>(block, kWeight, r, &w_copies);
    const size_t n = HWY_MIN(kExactBlock, block.n - first);
    auto magnitude = hn::Zero(wide), selected = hn::Zero(wide);
    for (size_t i = 0; i < n; i += lanes) {
      const size_t count = HWY_MIN(lanes, n - i);
      const auto load = [&](const auto& input) MSELOSS_INLINE {
        return HWY_LIKELY(count == lanes) ? input.load(d, first + i) : input.load_tail(d, first + i, count);
      };
      auto difference = hn::Sub(load(x), load(y)), narrow_weight = hn::Set(d, T{1});
      if constexpr (kMasked) {
        const auto dropped = load(w);
        difference = hn::IfThenZeroElse(dropped, difference);
        narrow_weight = hn::IfThenZeroElse(dropped, narrow_weight);
      } else {
        narrow_weight = load(w);
        difference = drop(narrow_weight, difference);
      }
      const auto v = widen(difference), weight = widen(narrow_weight);
      const auto square = hn::Mul(v, v), term = hn::Mul(square, weight);
      hn::Store(v, wide, differences + i);
      hn::Store(weight, wide, weights + i);
      selected = hn::Add(selected, weight);
      if constexpr (std::is_same_v<T, float>) {
        magnitude = hn::Add(magnitude, hn::Add(hn::Abs(term), hn::Abs(weight)));
        hn::Store(term, wide, terms + i);
        hn::Store(product_error(square, weight, term), wide, errors + i);
      }
    }
    if (sums->masked) sums->selected += static_cast<uint64_t>(sum_of_lanes(selected));
    // The square of a float32 and the two parts of its product with a float32 are exact in float64.
    if (std::is_same_v<T, float> && std::isfinite(sum_of_lanes(magnitude))) {
      const size_t padded = (n + lanes - 1) / lanes * lanes;
      add_block(terms, padded, squares);
      add_block(errors, padded, squares);
      if (!sums->masked) add_block(weights, padded, total);
    } else {
      add_elements(differences, weights, n, sums);
    }
  }
}

static void fill_weighted(Kernels* kernels, bool native_bfloat16) {
  constexpr DType kDType = DType::MSELOSS_KERNEL_DTYPE;
  with_storage<kDType>(native_bfloat16, [&](auto storage) {
    using S = decltype(storage);
    constexpr int i = static_cast<int>(kDType);
    kernels->slice_grad[i][0] = &slice_grad<S, Store::kCached>;
    kernels->slice_grad[i][1] = &slice_grad<S, Store::kNonTemporal>;
    const auto set = [&]<bool kMasked>(std::bool_constant<kMasked>) {
      kernels->weighted_grad[i][kMasked][0] = &weighted_grad<S, Store::kCached, kMasked>;
      kernels->weighted_grad[i][kMasked][1] = &weighted_grad<S, Store::kNonTemporal, kMasked>;
      kernels->weighted_loss[i][kMasked] = &weighted_loss<S, kMasked>;
      kernels->weighted_sum[i][kMasked] = &weighted_sum<S, Store::kNone, kMasked>;
      kernels->weighted_grad_and_sum[i][kMasked][0] = &weighted_sum<S, Store::kCached, kMasked>;
      kernels->weighted_grad_and_sum[i][kMasked][1] = &weighted_sum<S, Store::kNonTemporal, kMasked>;
      kernels->weighted_exact_sum[i][kMasked] = &weighted_exact_sum<S, kMasked>;
    };
    set(std::false_type());
    set(std::true_type());
  });
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
MSELOSS_EXPORT_DTYPE_KERNELS(fill_weighted)
#endif
