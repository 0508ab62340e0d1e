/* Start and end of the process's use of acl, and the text of its last error. Legal C and C++. */
#ifndef MSELOSS_CANN_ACL_ACL_H_
#define MSELOSS_CANN_ACL_ACL_H_

#include "acl_base.h"
#include "acl_rt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* configPath is accepted and not read. May be called again after aclFinalize. */
ACL_FUNC_VISIBILITY aclError aclInit(const char* configPath);
ACL_FUNC_VISIBILITY aclError aclFinalize(void);

/* What the calling thread's last failed call expected and what it was given; "" if it has been read already.
   Valid until this thread's next call. */
ACL_FUNC_VISIBILITY const char* aclGetRecentErrMsg(void);

#ifdef __cplusplus
}
#endif

#endif /* MSELOSS_CANN_ACL_ACL_H_ */
