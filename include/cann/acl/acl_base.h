#ifndef MSELOSS_CANN_ACL_ACL_BASE_H_
#define MSELOSS_CANN_ACL_ACL_BASE_H_

#include "acl_base_rt.h"

#endif /* MSELOSS_CANN_ACL_ACL_BASE_H_ */
