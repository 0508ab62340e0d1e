/* The gradient of the mean-squared-error loss. Legal C and C++. docs/aclnn_mse_loss_backward.md has every
   code. */
#ifndef MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_BACKWARD_H_
#define MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_BACKWARD_H_

#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Checks and plans out = gradOutput * (self - target) * 2, divided by self's own element count for mean.
   gradOutput, self, target: one of float32, float16, bfloat16, the same for all; they broadcast together,
   rank 0 to 8, any strides. reduction: 0 none, 1 mean, 2 sum. out: any of the three dtypes, exactly the
   broadcast shape; exactly one of the inputs or no byte shared with any. An empty out is a success that
   writes nothing. workspaceSize becomes 0. On failure nothing is written to *workspaceSize and *executor. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLossBackwardGetWorkspaceSize(
    const aclTensor* gradOutput, const aclTensor* self, const aclTensor* target, int64_t reduction,
    aclTensor* out, uint64_t* workspaceSize, aclOpExecutor** executor);

/* Runs the executor on the stream, and consumes it unless it is repeatable; failure consumes it too. `out` is
   there once the stream is synchronised. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLossBackward(void* workspace, uint64_t workspaceSize,
                                                     aclOpExecutor* executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif /* MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_BACKWARD_H_ */
