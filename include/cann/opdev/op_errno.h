/* For include paths that end above opdev. CANN keeps opdev in include/aclnn. */
#ifndef MSELOSS_CANN_OPDEV_OP_ERRNO_H_
#define MSELOSS_CANN_OPDEV_OP_ERRNO_H_

#include "../aclnn/opdev/op_errno.h"

#endif /* MSELOSS_CANN_OPDEV_OP_ERRNO_H_ */
