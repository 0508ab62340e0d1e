#ifndef MSELOSS_CANN_ACLNNOP_ACLNN_UTIL_H_
#define MSELOSS_CANN_ACLNNOP_ACLNN_UTIL_H_

#if defined(_WIN32)
#define ACLNN_API
#else
#define ACLNN_API __attribute__((visibility("default")))
#endif

#endif /* MSELOSS_CANN_ACLNNOP_ACLNN_UTIL_H_ */
