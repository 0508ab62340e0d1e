// What CANN generates from the operator's definition.
#pragma once

#include "aclnn/acl_meta.h"

extern "C" {
aclnnStatus aclnnMseLossV2GradGetWorkspaceSize(const aclTensor* predict, const aclTensor* label,
                                               const aclTensor* dout, char* reductionOptional,
                                               const aclTensor* out, uint64_t* workspaceSize,
                                               aclOpExecutor** executor);
aclnnStatus aclnnMseLossV2Grad(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor,
                               aclrtStream stream);
}
