#ifndef MSELOSS_CANN_ACLNN_ACLNN_BASE_H_
#define MSELOSS_CANN_ACLNN_ACLNN_BASE_H_

#include "aclnn/acl_meta.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Optional: the operators need no initialisation. configPath is ignored. */
ACL_FUNC_VISIBILITY aclnnStatus aclnnInit(const char* configPath);
ACL_FUNC_VISIBILITY aclnnStatus aclnnFinalize(void);

#ifdef __cplusplus
}
#endif

#endif /* MSELOSS_CANN_ACLNN_ACLNN_BASE_H_ */
