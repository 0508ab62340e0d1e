// Calls whose operands have one shape.
#pragma once

#include "backend.h"
#include "cpu/small_call.h"
#include "jax/handler.h"

namespace mseloss::python {

// The number of elements of a call without a weight whose operands have the shape of `like`, else 0. Such a
// call, the usual one, needs no Call.
[[gnu::always_inline]] inline int64_t dense_count(const Inputs& in, const Out& like) {
  const int64_t rank = like.rank;
  if (in.weight != nullptr || in.input.rank != rank || in.target.rank != rank) return 0;
  for (int64_t i = 0; i < rank; ++i) {
    if (in.input.dims[i] != like.dims[i] || in.target.dims[i] != like.dims[i]) return 0;
  }
  return count_of(like);
}

// Runs such a call with a plan.
Status run_dense_plan(Op op, Reduction reduction, DType dtype, int64_t numel, const Buffers& buffers,
                      double scale, bool elementwise);

// Runs such a call. Nothing is checked: XLA's buffers are valid and do not overlap. `loss` is the address of
// a sum or mean. grad_output is one element unless it is `elementwise`.
[[gnu::always_inline]] inline Status run_dense(Op op, Reduction reduction, DType dtype, int64_t numel,
                                               const Buffers& buffers, void* loss, double scale,
                                               bool elementwise = false) {
  if (numel <= cpu::kFewElements && host_backend == &cpu::kBackend &&
      cpu::run_small({op, reduction, dtype, dtype, loss},
                     cpu::dense_row(buffers, numel, !elementwise, scale))) {
    return {};
  }
  return run_dense_plan(op, reduction, dtype, numel, buffers, scale, elementwise);
}

}  // namespace mseloss::python
