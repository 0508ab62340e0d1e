#include "module/grad_part.h"

#include "numerics/scale.h"
#include "plan/plan.h"

namespace mseloss::python {

Status grad_part(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                 int64_t count, const Tensor& out, const Options& options) {
  Plan plan;
  Status status = make_grad_plan(grad_output, input, target, Reduction::kSum, out, &plan);
  if (!status.ok()) return status;
  if (count > 0) {
    plan.reduction = Reduction::kMean;
    plan.scale = mean_scale(plan.dtype, count);
  }
  const Buffers buffers{grad_output.data, input.data, target.data, out.data, nullptr};
  status = check_buffers(plan, buffers);
  return status.ok() ? mseloss::run(plan, buffers, options) : status;
}

}  // namespace mseloss::python
