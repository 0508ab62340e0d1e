/* The mean-squared-error loss reduced over the first dimension. Valid C and C++. docs/aclnn_mse_loss_out.md
   lists every error code. */
#ifndef MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_OUT_H_
#define MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_OUT_H_

#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* First phase: checks the arguments and plans out = (self - target)^2, elementwise for reduction 0 (none);
   for 2 (sum) its sum over dimension 0 of the broadcast shape, for 1 (mean) that sum divided by the extent of
   dimension 0, both correctly rounded to the promoted dtype of self and target and then converted to out's.
   dtypes: self, target and out are each float32, float16 or bfloat16 and may differ.
   shapes: self and target broadcast together, rank 0 to 8, any strides; out has exactly the broadcast shape
   for none, for mean and sum the broadcast shape without its first dimension. 0-dimensional inputs count as
   one row. aliasing: for none, out is exactly self, exactly target or disjoint from both; else disjoint from
   both. empty input: none writes nothing; without rows sum writes 0 and mean NaN to every element of out.
   Sets *workspaceSize to 0. On failure *workspaceSize and *executor are unchanged. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLossOutGetWorkspaceSize(const aclTensor* self,
                                                                const aclTensor* target, int64_t reduction,
                                                                aclTensor* out, uint64_t* workspaceSize,
                                                                aclOpExecutor** executor);

/* Second phase: see aclnnMseLossBackward. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnMseLossOut(void* workspace, uint64_t workspaceSize,
                                                aclOpExecutor* executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif /* MSELOSS_CANN_ACLNNOP_ACLNN_MSE_LOSS_OUT_H_ */
