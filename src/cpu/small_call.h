// Calls on few dense elements.
#pragma once

#include "cpu/kernels/kernels.h"
#include "numerics/float_environment.h"
#include "plan/parts.h"

namespace mseloss::cpu {

// At most so many run on one thread, with cached stores, and are one row block of a sum.
inline constexpr int64_t kFewElements = 4096;

// What a call on one row of at most kFewElements elements computes, without a weight. `dtype` is that of all
// elements, `loss` the address of a sum or mean.
struct SmallCall {
  Op op;
  Reduction reduction;
  DType dtype, loss_dtype;
  void* loss;
};

// Returns false if the sum leaves the rounding undecided; the loss is then not written.
bool finish_small(const SmallCall& call, const RowSum& sum, size_t count);

// One or two kernel calls: the set-up of a sweep would take several times as long. Inline, because half of
// the time of a call between other work is that of instructions that are not in the cache. Returns false if
// the fast sum leaves the rounding undecided; the loss is then not written.
inline bool run_small(const SmallCall& call, const RowBlock& row) {
  const FloatEnvironment environment;
  const Kernels& table = kernels();
  const auto dtype = static_cast<int>(call.dtype);
  if (call.op != Op::kGrad && call.reduction != Reduction::kNone) {
    RowSum sum;
    (call.op == Op::kLoss ? table.sum[dtype] : table.grad_and_sum[dtype][0])(row, &sum);
    return finish_small(call, sum, row.n);
  }
  const int width = width_of(row.n * static_cast<size_t>(size_of(call.dtype)));
  if (call.op != Op::kLoss) table.grad[dtype][width](row);
  if (call.op == Op::kLoss) table.loss[dtype][width](row);
  if (call.op == Op::kLossAndGrad) {
    RowBlock loss = row;
    loss.at[kOut] = row.at[kLossOut];
    table.loss[dtype][width](loss);
  }
  return true;
}

// The row of `numel` elements at `buffers`, without a plan.
inline RowBlock dense_row(const Buffers& buffers, int64_t numel, bool broadcast_grad_output, double scale) {
  RowBlock row;  // not value-initialised: clearing all of it is measurable
  std::copy_n(buffers.data, kOperands, row.at);
  std::fill_n(row.pitch, kOperands, 0);
  std::fill_n(row.strided, kOperands, numel != 1);
  if (broadcast_grad_output) row.strided[kGradOutput] = false;
  row.n = static_cast<size_t>(numel);
  row.rows = 1;
  row.scale = scale;
  return row;
}

// The same for a plan, for which run_small() has to be possible.
inline bool is_small(const Plan& plan, const Buffers& buffers, const Options& options) {
  return plan.numel <= kFewElements && plan.layout == Layout::kDense && !has(plan, kWeight) &&
         !options.exact && options.store != Options::Store::kNonTemporal && !needs_two_sweeps(plan) &&
         !(plan.op == Op::kLossAndGrad && is_in_place(buffers));
}
bool run_small(const Plan& plan, const Buffers& buffers);

}  // namespace mseloss::cpu
