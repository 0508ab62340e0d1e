/* The gradient of the mean-squared-error loss. Valid C and C++. docs/aclnn_mse_loss_backward.md lists every
   error code. */
#ifndef MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_BACKWARD_H_
#define MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_BACKWARD_H_

#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* First phase: checks the arguments and plans out = gradOutput * (self - target) * 2, divided for reduction 1
   (mean) by self's element count before broadcasting; 0 is none, 2 is sum.
   dtypes: gradOutput, self and target share one of float32, float16 and bfloat16; out has any of the three.
   shapes: the inputs broadcast together, rank 0 to 8, any strides; out has exactly the broadcast shape.
   aliasing: out is exactly one of the inputs or shares no byte with any.
   empty input: succeeds and writes nothing.
   Sets *workspaceSize to 0. On failure *workspaceSize and *executor are unchanged. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLossBackwardGetWorkspaceSize(
    const aclTensor* gradOutput, const aclTensor* self, const aclTensor* target, int64_t reduction,
    aclTensor* out, uint64_t* workspaceSize, aclOpExecutor** executor);

/* Second phase: runs the executor on the stream. The executor is consumed, even on failure, unless it is
   repeatable. `out` is complete after the stream is synchronised. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLossBackward(void* workspace, uint64_t workspaceSize,
                                                     aclOpExecutor* executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif /* MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_BACKWARD_H_ */
