/* A C11 program that includes every header and calls every operator. */
#include <stdio.h>

#include "acl/acl.h"
#include "acl/acl_base.h"
#include "acl/acl_base_rt.h"
#include "acl/acl_prof.h"
#include "acl/acl_rt.h"
#include "acl/error_codes/ge_error_codes.h"
#include "acl/error_codes/rt_error_codes.h"
#include "acl_meta.h"
#include "aclnn/acl_meta.h"
#include "aclnn/aclnn_base.h"
#include "aclnn/opdev/op_errno.h"
#include "aclnnop/aclnn_mse_loss.h"
#include "aclnnop/aclnn_mse_loss_backward.h"
#include "aclnnop/aclnn_mse_loss_out.h"
#include "aclnnop/aclnn_util.h"
#include "aclnnop/level2/aclnn_mse_loss.h"
#include "aclnnop/level2/aclnn_mse_loss_backward.h"
#include "aclnnop/level2/aclnn_mse_loss_out.h"
#include "opdev/op_errno.h"

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      printf("line %d: %s\n%s\n", __LINE__, #condition, aclGetRecentErrMsg()); \
      return 1;                                                                \
    }                                                                          \
  } while (0)

static aclTensor* tensor_of(void* data, int64_t count) {
  return aclCreateTensor(&count, 1, ACL_FLOAT, NULL, 0, ACL_FORMAT_ND, &count, 1, data);
}

int main(void) {
  const float x_host[4] = {1, 2, 3, 4}, y_host[4] = {1, 1, 1, 1}, g_host[4] = {1, 1, 1, 2};
  const float expected[4] = {0, 2, 4, 12};
  float out_host[4], loss_host = 0, columns_host[2];
  void *x_data, *y_data, *g_data, *out_data, *loss_data, *columns_data;
  aclrtStream stream;
  uint64_t workspace;
  aclOpExecutor* executor;

  CHECK(aclInit(NULL) == ACL_SUCCESS);
  CHECK(aclnnInit(NULL) == ACLNN_SUCCESS);
  CHECK(aclrtSetDevice(0) == ACL_SUCCESS);
  CHECK(aclrtCreateStream(&stream) == ACL_SUCCESS);
  CHECK(aclrtMalloc(&x_data, sizeof(x_host), ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
  CHECK(aclrtMalloc(&y_data, sizeof(y_host), ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
  CHECK(aclrtMalloc(&g_data, sizeof(g_host), ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
  CHECK(aclrtMalloc(&out_data, sizeof(out_host), ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
  CHECK(aclrtMalloc(&loss_data, sizeof(loss_host), ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
  CHECK(aclrtMemcpy(x_data, 16, x_host, 16, ACL_MEMCPY_HOST_TO_DEVICE) == ACL_SUCCESS);
  CHECK(aclrtMemcpy(y_data, 16, y_host, 16, ACL_MEMCPY_HOST_TO_DEVICE) == ACL_SUCCESS);
  CHECK(aclrtMemcpy(g_data, 16, g_host, 16, ACL_MEMCPY_HOST_TO_DEVICE) == ACL_SUCCESS);

  aclTensor *x = tensor_of(x_data, 4), *y = tensor_of(y_data, 4), *g = tensor_of(g_data, 4);
  aclTensor* out = tensor_of(out_data, 4);
  aclTensor* loss = aclCreateTensor(NULL, 0, ACL_FLOAT, NULL, 0, ACL_FORMAT_ND, NULL, 0, loss_data);
  CHECK(x && y && g && out && loss);

  CHECK(aclnnMseLossBackwardGetWorkspaceSize(g, x, y, 2, out, &workspace, &executor) == ACLNN_SUCCESS);
  CHECK(workspace == 0);
  CHECK(aclnnMseLossBackward(NULL, 0, executor, stream) == ACLNN_SUCCESS);
  CHECK(aclnnMseLossGetWorkspaceSize(x, y, 1, loss, &workspace, &executor) == ACLNN_SUCCESS);
  CHECK(aclnnMseLoss(NULL, workspace, executor, stream) == ACLNN_SUCCESS);
  const int64_t rows[2] = {2, 2};
  aclTensor* x_rows = aclCreateTensor(rows, 2, ACL_FLOAT, NULL, 0, ACL_FORMAT_ND, rows, 2, x_data);
  aclTensor* y_rows = aclCreateTensor(rows, 2, ACL_FLOAT, NULL, 0, ACL_FORMAT_ND, rows, 2, y_data);
  CHECK(aclrtMalloc(&columns_data, sizeof(columns_host), ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
  aclTensor* columns = tensor_of(columns_data, 2);
  CHECK(x_rows && y_rows && columns);
  CHECK(aclnnMseLossOutGetWorkspaceSize(x_rows, y_rows, 1, columns, &workspace, &executor) == ACLNN_SUCCESS);
  CHECK(aclnnMseLossOut(NULL, workspace, executor, stream) == ACLNN_SUCCESS);
  CHECK(aclrtSynchronizeStream(stream) == ACL_SUCCESS);
  CHECK(aclrtMemcpy(columns_host, 8, columns_data, 8, ACL_MEMCPY_DEVICE_TO_HOST) == ACL_SUCCESS);
  CHECK(columns_host[0] == 2 && columns_host[1] == 5);
  CHECK(aclrtMemcpy(out_host, 16, out_data, 16, ACL_MEMCPY_DEVICE_TO_HOST) == ACL_SUCCESS);
  CHECK(aclrtMemcpy(&loss_host, 4, loss_data, 4, ACL_MEMCPY_DEVICE_TO_HOST) == ACL_SUCCESS);
  for (int i = 0; i < 4; ++i) CHECK(out_host[i] == expected[i]);
  CHECK(loss_host == 3.5f);
  CHECK(aclnnMseLossOut(NULL, 0, executor, stream) == ACLNN_ERR_PARAM_INVALID);

  aclDestroyTensor(x), aclDestroyTensor(y), aclDestroyTensor(g), aclDestroyTensor(out),
      aclDestroyTensor(loss), aclDestroyTensor(x_rows), aclDestroyTensor(y_rows), aclDestroyTensor(columns);
  aclrtFree(x_data), aclrtFree(y_data), aclrtFree(g_data), aclrtFree(out_data), aclrtFree(loss_data),
      aclrtFree(columns_data);
  CHECK(aclrtDestroyStream(stream) == ACL_SUCCESS);
  CHECK(aclrtResetDevice(0) == ACL_SUCCESS);
  CHECK(aclnnFinalize() == ACLNN_SUCCESS);
  CHECK(aclFinalize() == ACL_SUCCESS);
  return 0;
}
