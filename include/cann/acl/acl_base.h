#ifndef MSELOSS_CANN_ACL_ACL_BASE_H_
#define MSELOSS_CANN_ACL_ACL_BASE_H_

#include "acl_base_rt.h"
#include "error_codes/ge_error_codes.h"
#include "error_codes/rt_error_codes.h"

#endif /* MSELOSS_CANN_ACL_ACL_BASE_H_ */
