/* The mean-squared-error loss. Valid C and C++. docs/aclnn_mse_loss.md lists every error code. */
#ifndef MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_H_
#define MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_H_

#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* First phase: checks the arguments and plans out = (self - target)^2, elementwise for reduction 0 (none);
   its mean over the broadcast shape for 1 (mean), its sum for 2 (sum), both correctly rounded. The result is
   rounded to the promoted dtype of self and target and then converted to out's. dtypes: self, target and out
   are each float32, float16 or bfloat16 and may differ. shapes: self and target broadcast together, rank 0 to
   8, any strides; out has exactly the broadcast shape for none and is 0-dimensional for mean and sum.
   aliasing: for none, out is exactly self, exactly target or disjoint from both; else disjoint from both.
   empty input: none writes nothing, sum writes 0, mean writes NaN.
   Sets *workspaceSize to 0. On failure *workspaceSize and *executor are unchanged. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLossGetWorkspaceSize(const aclTensor* self, const aclTensor* target,
                                                             int64_t reduction, aclTensor* out,
                                                             uint64_t* workspaceSize,
                                                             aclOpExecutor** executor);

/* Second phase: see aclnnMseLossBackward. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLoss(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor,
                                             aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif /* MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_H_ */
