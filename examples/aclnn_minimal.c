/* aclnn_minimal.cpp in C: the gradient of a sum, in place on `self`. */
#include <stdio.h>

#include "acl/acl.h"
#include "aclnnop/aclnn_mse_loss_backward.h"

#define CHECK(call)                                                    \
  do {                                                                 \
    const int code = (call);                                           \
    if (code != 0) {                                                   \
      printf("%s: error %d\n%s\n", #call, code, aclGetRecentErrMsg()); \
      return 1;                                                        \
    }                                                                  \
  } while (0)

/* Device memory with a copy of 4 values, and a tensor that covers it. */
static int create(const float* values, void** memory, aclTensor** tensor) {
  const int64_t shape[] = {4};
  CHECK(aclrtMalloc(memory, 16, ACL_MEM_MALLOC_HUGE_FIRST));
  CHECK(aclrtMemcpy(*memory, 16, values, 16, ACL_MEMCPY_HOST_TO_DEVICE));
  *tensor = aclCreateTensor(shape, 1, ACL_FLOAT, NULL, 0, ACL_FORMAT_ND, shape, 1, *memory);
  return *tensor == NULL;
}

int main(void) {
  const float ones[4] = {1, 1, 1, 1}, values[4] = {1, 2, 3, 4};
  float result[4];
  void *grad_memory, *self_memory, *target_memory;
  aclTensor *grad_output, *self, *target;
  aclrtStream stream;
  uint64_t workspace_size;
  aclOpExecutor* executor;

  CHECK(aclInit(NULL));
  CHECK(aclrtSetDevice(0));
  CHECK(aclrtCreateStream(&stream));
  CHECK(create(ones, &grad_memory, &grad_output));
  CHECK(create(values, &self_memory, &self));
  CHECK(create(ones, &target_memory, &target));

  /* The first phase checks, the second runs. `out` may be identical to an input. Reduction 2 is sum. */
  CHECK(aclnnMseLossBackwardGetWorkspaceSize(grad_output, self, target, 2, self, &workspace_size, &executor));
  CHECK(aclnnMseLossBackward(NULL, workspace_size, executor, stream)); /* mseloss needs no workspace */
  CHECK(aclrtSynchronizeStream(stream));
  CHECK(aclrtMemcpy(result, 16, self_memory, 16, ACL_MEMCPY_DEVICE_TO_HOST));
  printf("%g %g %g %g\n", result[0], result[1], result[2], result[3]); /* 0 2 4 6 */

  CHECK(aclDestroyTensor(grad_output));
  CHECK(aclDestroyTensor(self));
  CHECK(aclDestroyTensor(target));
  CHECK(aclrtFree(grad_memory));
  CHECK(aclrtFree(self_memory));
  CHECK(aclrtFree(target_memory));
  CHECK(aclrtDestroyStream(stream));
  CHECK(aclrtResetDevice(0));
  CHECK(aclFinalize());
  return result[3] == 6 ? 0 : 1;
}
