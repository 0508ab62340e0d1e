/* Marks for CANN's profiler, as frameworks call them. There is no profiler here: the functions check their
   arguments and do nothing else. Valid C and C++. */
#ifndef MSELOSS_CANN_ACL_ACL_PROF_H_
#define MSELOSS_CANN_ACL_ACL_PROF_H_

#include "acl_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum MSELOSS_ENUM_BASE { ACL_PROF_MESSAGE_TYPE_TENSOR_INFO = 0 } aclprofMessageType;

/* Early callers declare these structures themselves, under this guard. */
#ifndef ACL_PROF_TENSOR_INFO_DEFINED
#define ACL_PROF_TENSOR_INFO_DEFINED

#define ACL_PROF_EVENT_ATTR_VERSION 1

typedef struct aclprofTensor {
  uint32_t type; /* 0 input, 1 output */
  uint32_t format;
  uint32_t dataType;
  uint32_t shapeDim;
  uint32_t shape[8];
} aclprofTensor;

typedef struct aclprofTensorInfo {
  uint64_t opNameId; /* from aclprofStr2Id */
  uint64_t opTypeId;
  uint32_t resv;
  uint32_t tensorNum;
  uint32_t kernelType;
  uint32_t blockNums;
  void* stream;
  aclprofTensor* tensors;
} aclprofTensorInfo;

typedef struct aclprofEventAttributes {
  uint16_t version;
  uint16_t size;
  uint32_t messageType;
  union {
    aclprofTensorInfo* tensorInfo;
  } message;
} aclprofEventAttributes;

#endif /* ACL_PROF_TENSOR_INFO_DEFINED */

/* A number for the text: equal texts have equal numbers. 0 for null. */
ACL_FUNC_VISIBILITY uint64_t aclprofStr2Id(const char* message);
ACL_FUNC_VISIBILITY aclError aclprofRangePushEx(aclprofEventAttributes* attr);
ACL_FUNC_VISIBILITY aclError aclprofRangePop(void);

#ifdef __cplusplus
}
#endif

#endif /* MSELOSS_CANN_ACL_ACL_PROF_H_ */
