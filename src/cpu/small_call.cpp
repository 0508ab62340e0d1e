#include "cpu/small_call.h"

#include "numerics/float_environment.h"
#include "numerics/rounding_test.h"

namespace mseloss::cpu {
namespace {

bool finish(const SmallCall& call, const RowSum& row, size_t count) {
  SumState state;
  state.count = state.fast_terms = count;
  add_row(&state.squares, row);
  double value;
  if (!finish_sum<true>(state, nullptr, call.reduction, call.loss_dtype, nullptr, &value)) return false;
  store_exact(value, call.loss_dtype, call.loss);
  return true;
}

}  // namespace

bool run_small(const SmallCall& call, const RowBlock& row) {
  const FloatEnvironment environment;
  const Kernels& table = kernels();
  const auto dtype = static_cast<int>(call.dtype);
  if (call.op != Op::kGrad && call.reduction != Reduction::kNone) {
    RowSum sum;
    (call.op == Op::kLoss ? table.sum[dtype] : table.grad_and_sum[dtype][0])(row, &sum);
    return finish(call, sum, row.n);
  }
  const int width = width_of(row.n * static_cast<size_t>(size_of(call.dtype)));
  if (call.op == Op::kLoss) {
    table.loss[dtype][width](row);
    return true;
  }
  table.grad[dtype][width](row);
  if (call.op == Op::kLossAndGrad) {
    RowBlock loss = row;
    loss.at[kOut] = row.at[kLossOut];
    table.loss[dtype][width](loss);
  }
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
