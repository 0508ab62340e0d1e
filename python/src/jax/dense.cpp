#include "jax/dense.h"

namespace mseloss::python {

Status run_dense_plan(Op op, Reduction reduction, DType dtype, int64_t numel, const Buffers& buffers,
                      double scale, bool elementwise) {
  return run(make_dense_plan(op, reduction, dtype, numel, !elementwise, scale), buffers, {});
}

}  // namespace mseloss::python
