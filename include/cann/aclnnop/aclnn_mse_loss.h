/* The mean-squared-error loss. Legal C and C++. docs/aclnn_mse_loss.md has every code. */
#ifndef MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_H_
#define MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_H_

#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Checks and plans out = (self - target)^2, elementwise (reduction 0), their mean over the broadcast shape
   (1) or sum (2), both correctly rounded. self, target, out: each any of float32, float16, bfloat16. self and
   target broadcast together, rank 0 to 8, any strides. out: the broadcast shape for none, exactly self,
   exactly target or apart from both; 0-dimensional and apart from both for mean and sum. Empty: none writes
   nothing, sum writes 0, mean NaN. workspaceSize becomes 0. On failure nothing is written to *workspaceSize
   and *executor. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLossGetWorkspaceSize(const aclTensor* self, const aclTensor* target,
                                                             int64_t reduction, aclTensor* out,
                                                             uint64_t* workspaceSize,
                                                             aclOpExecutor** executor);

/* As aclnnMseLossBackward. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLoss(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor,
                                             aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif /* MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_H_ */
