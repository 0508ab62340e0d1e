/* Initialisation and finalisation of acl, and the text of the last error. Valid C and C++. */
#ifndef MSELOSS_CANN_ACL_ACL_H_
#define MSELOSS_CANN_ACL_ACL_H_

#include "acl_base.h"
#include "acl_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* configPath is ignored. May be called again after aclFinalize. */
ACL_FUNC_VISIBILITY aclError aclInit(const char* configPath);
ACL_FUNC_VISIBILITY aclError aclFinalize(void);

/* The message of the calling thread's last failed call: the parameter, what was expected, what was given.
   Reading it clears it: the next call returns "". Valid until this thread's next acl or aclnn call. */
ACL_FUNC_VISIBILITY const char* aclGetRecentErrMsg(void);

#ifdef __cplusplus
}
#endif

#endif /* MSELOSS_CANN_ACL_ACL_H_ */
