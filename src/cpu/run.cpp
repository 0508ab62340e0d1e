// Runs a checked plan on the CPU: selects the sweeps, and decides whether a fast sum is enough.
#include <algorithm>
#include <utility>

#include "backend.h"
#include "cpu/small_call.h"
#include "cpu/sweep.h"
#include "numerics/formats.h"
#include "plan/arguments.h"
#include "plan/parts.h"

namespace mseloss::cpu {
namespace {

// Runs a sweep that sums; calls finish(sum) and, if that returns false because the fast sum leaves the
// rounding undecided, once more after an exact sweep.
template <class F>
Status run_sum(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options, F finish) {
  if (sweep != Sweep::kExactSum) {
    SumState fast;
    const SumTarget sum{&fast, nullptr};
    if (Status status = run_sweep(plan, buffers, sweep, options, sum); !status.ok()) return status;
    if (finish(sum)) return {};
  }
  SumState exact;
  uint64_t limbs[2 * PartialSum::kLimbs] = {};
  const SumTarget sum{&exact, limbs};
  if (Status status = run_sweep(plan, buffers, Sweep::kExactSum, options, sum); !status.ok()) return status;
  finish(sum);  // always succeeds for an exact sum
  return {};
}

Status run_loss(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options) {
  void* out = buffers[loss_operand(plan)];
  return run_sum(plan, buffers, sweep, options, [&](const SumTarget& sum) {
    return SumAccess::finish(*sum.state, sum.limbs, plan.reduction, plan.loss_dtype, out);
  });
}

// Computes the scale of a mean with weights, 2 / sum(w): the weights are summed over their own elements, as
// w * (1 - 0)^2, and counted as often as they are used.
Status set_scale(Plan* plan, const Buffers& buffers, const Options& options) {
  const DType compute = compute_dtype(*plan);
  Plan weights = *plan;
  weights.op = Op::kLoss;
  weights.reduction = Reduction::kSum;
  weights.operands = 1 << kInput | 1 << kTarget | 1 << kWeight;
  int64_t copies = 1;
  for (int d = 0; d < plan->rank; ++d) {
    if (plan->stride[kWeight][d] == 0) copies *= std::exchange(weights.extent[d], 1);
  }
  weights.numel = plan->numel / copies;
  for (int o = 0; o < kOperands; ++o) {
    if (o == kWeight) continue;
    weights.dtypes[o] = plan->dtype;
    weights.offset[o] = 0;
    std::fill_n(weights.stride[o], kMaxRank, 0);
  }
  coalesce(&weights);
  if (is_masked(*plan) && weights.rank == 1 && weights.stride[kWeight][0] == 1) {
    weights.operands = 1 << kWeight;
    weights.dtype = DType::kBool;
    weights.layout = Layout::kDense;
    SumState count;
    if (Status status = run_sweep(weights, buffers, Sweep::kCountMask, options, {&count, nullptr});
        !status.ok()) {
      return status;
    }
    SumAccess::scale(count, nullptr, static_cast<uint64_t>(copies), compute, &plan->scale);
    return {};
  }
  weights.layout = classify(weights);
  double one, zero;
  store_exact(1, plan->dtype, &one);
  store_exact(0, plan->dtype, &zero);
  const Buffers operands{nullptr, &one, &zero, nullptr, nullptr, buffers[kWeight]};
  return run_sum(weights, operands, options.exact ? Sweep::kExactSum : Sweep::kFastSum, options,
                 [&](const SumTarget& sum) {
                   return SumAccess::scale(*sum.state, sum.limbs, static_cast<uint64_t>(copies), compute,
                                           &plan->scale);
                 });
}

// Whether the gradient overwrites an operand, grad_output included, whose memory it may have if the slices
// are elements.
bool overwrites(const Buffers& buffers) {
  return is_in_place(buffers) || buffers[kOut] == buffers[kGradOutput];
}

// A plan that is not sliced, with its scale.
Status run_whole(const Plan& plan, const Buffers& buffers, const Options& options) {
  if (!has_sum(plan)) {
    const Sweep sweep = plan.op == Op::kGrad   ? Sweep::kGrad
                        : plan.op == Op::kLoss ? Sweep::kLoss
                                               : Sweep::kGradAndLoss;
    if (needs_two_sweeps(plan) || (plan.op == Op::kLossAndGrad && overwrites(buffers))) {
      const Buffers loss = loss_buffers(buffers);
      if (Status status = run_sweep(loss_plan(plan), loss, Sweep::kLoss, options, {}); !status.ok()) {
        return status;
      }
      return run_sweep(grad_plan(plan), buffers, Sweep::kGrad, options, {});
    }
    return run_sweep(plan, buffers, sweep, options, {});
  }
  const Sweep sum = options.exact ? Sweep::kExactSum : Sweep::kFastSum;
  if (plan.op == Op::kLoss) return run_loss(plan, buffers, sum, options);
  // An exact sweep needs unmodified inputs, so the loss is computed before a gradient that overwrites one.
  if (!is_in_place(buffers) && !options.exact) return run_loss(plan, buffers, Sweep::kGradAndSum, options);
  if (Status status = run_loss(plan, buffers, sum, options); !status.ok()) return status;
  return run_sweep(plan, buffers, Sweep::kGrad, options, {});
}

// A plan that is not sliced.
Status run_one(const Plan& plan, const Buffers& buffers, const Options& options) {
  if (!needs_scale(plan)) return run_whole(plan, buffers, options);
  Plan scaled = plan;
  if (Status status = set_scale(&scaled, buffers, options); !status.ok()) return status;
  return run_whole(scaled, buffers, options);
}

// Runs the slices for which wanted(address of the loss) is true one after the other.
template <class F>
Status run_each_slice(const Plan& plan, const Buffers& buffers, const Options& options, F wanted) {
  const Plan slice = slice_plan(plan);
  const auto is_wanted = [&](int64_t offset) {
    return wanted(static_cast<char*>(buffers[kLossOut]) + offset * size_of(plan.loss_dtype));
  };
  return for_each_slice(plan, is_wanted, [&](const int64_t* offset) {
    Buffers part;
    for_each_operand(plan, [&](int o) {
      part.data[o] = static_cast<char*>(buffers[o]) + offset[o] * size_of(plan.dtypes[o]);
    });
    if (plan.op == Op::kLoss) part.data[kOut] = part.data[kLossOut];
    return run_one(slice, part, options);
  });
}

// Whether a mean with weights and its gradient are one sweep. The gradient needs the sums first, so operands
// are read again, which is cheap as long as a slice stays in the caches.
bool is_one_sweep(const Plan& plan, const Buffers& buffers) {
  constexpr int64_t kLongSlice = 1 << 17;  // elements
  const bool rows = is_reduced(plan, plan.rank - 1);
  return !overwrites(buffers) && (!rows || plan.numel / plan.slices < kLongSlice);
}

// All slices in one sweep; then those that the fast sums leave undecided.
Status run_slice_sums(const Plan& plan, const Buffers& buffers, const Options& options) {
  const bool grad = plan.op == Op::kLossAndGrad, fused = grad && !is_in_place(buffers);
  const bool scaled = needs_scale(plan);
  SumState pending;
  const Sweep sweep = scaled  ? Sweep::kSliceSumsThenGrad
                      : fused ? Sweep::kGradAndSliceSums
                              : Sweep::kSliceSums;
  if (Status status = run_sweep(plan, buffers, sweep, options, {&pending, nullptr}); !status.ok())
    return status;
  if (pending.count != 0) {
    Plan again = plan;
    if (!scaled) {  // the gradient is complete
      again.op = Op::kLoss;
      again.operands &= ~(1 << kOut | 1 << kGradOutput);
    }
    Options exact = options;
    exact.exact = true;
    const Status status = run_each_slice(
        again, buffers, exact, [&](const void* slice) { return is_pending(plan.loss_dtype, slice); });
    if (!status.ok()) return status;
  }
  if (!grad || fused) return {};
  return run_sweep(grad_plan(plan), buffers, Sweep::kGrad, options, {});
}

// Whether the slices are the elements, and their loss without a sum has the same bits, because it is rounded
// once, too. A loss in a half type is rounded twice.
bool are_elements(const Plan& plan) {
  return plan.slices == plan.numel && plan.loss_dtype == compute_dtype(plan) && !has(plan, kWeight);
}

Status run_elements(const Plan& slices, const Buffers& buffers, const Options& options) {
  const bool loss_alone = slices.op == Op::kLoss;
  Plan plan = loss_alone ? loss_plan(slices) : slices;
  plan.sliced = false;
  plan.reduction = Reduction::kNone;
  coalesce(&plan);
  plan.layout = classify(plan);
  return run_one(plan, loss_alone ? loss_buffers(buffers) : buffers, options);
}

Status run_slices(const Plan& plan, const Buffers& buffers, const Options& options) {
  if (plan.slices == 0) return {};
  if (plan.numel != 0 && are_elements(plan)) return run_elements(plan, buffers, options);
  if (plan.numel == 0) {
    return for_each_slice(plan, [&](const int64_t* offset) {
      char* out = static_cast<char*>(buffers[kLossOut]) + offset[kLossOut] * size_of(plan.loss_dtype);
      SumAccess::finish({}, nullptr, plan.reduction, plan.loss_dtype, out);
      return Status();
    });
  }
  if (!options.exact && plan.rank > 0 && (!needs_scale(plan) || is_one_sweep(plan, buffers))) {
    return run_slice_sums(plan, buffers, options);
  }
  return run_each_slice(plan, buffers, options, [](const void*) { return true; });
}

Status run_plan(const Plan& plan, const Buffers& buffers, const Options& options) {
  if (is_small(plan, buffers, options) && run_small(plan, buffers)) return {};
  return plan.sliced ? run_slices(plan, buffers, options) : run_one(plan, buffers, options);
}

Status sum_plan(const Plan& plan, const Buffers& buffers, const SumRequest& request, const Options& options,
                const SumTarget& target) {
  const Sweep sweep = plan.op == Op::kLossAndGrad ? Sweep::kGradAndSum
                      : request.exact             ? Sweep::kExactSum
                                                  : Sweep::kFastSum;
  return run_sweep(plan, buffers, sweep, options, target);
}

}  // namespace

const Backend kBackend{"cpu", &run_plan, &sum_plan, nullptr};

}  // namespace mseloss::cpu
