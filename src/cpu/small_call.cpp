#include "cpu/small_call.h"

#include "numerics/rounding_test.h"

namespace mseloss::cpu {

bool finish_small(const SmallCall& call, const RowSum& sum, size_t count) {
  SumState state;
  state.count = state.fast_terms = count;
  add_row(&state.squares, sum);
  double value;
  if (!finish_sum<true>(state, nullptr, call.reduction, call.loss_dtype, nullptr, &value)) return false;
  store_exact(value, call.loss_dtype, call.loss);
  return true;
}

bool run_small(const Plan& plan, const Buffers& buffers) {
  RowBlock row = dense_row(buffers, plan.numel, false, plan.scale);
  for_each_operand(plan, [&](int o) {
    row.at[o] = static_cast<char*>(buffers[o]) + plan.offset[o] * size_of(plan.dtype);
    row.strided[o] = plan.rank != 0 && plan.stride[o][0] != 0;
  });
  void* const loss = has_sum(plan) ? buffers[loss_operand(plan)] : nullptr;
  return run_small({plan.op, plan.reduction, plan.dtype, plan.loss_dtype, loss}, row);
}

}  // namespace mseloss::cpu
