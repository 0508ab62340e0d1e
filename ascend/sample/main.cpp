// Calls aclnnMseLossV2Grad on two tensors and a scalar gradient, and checks the result.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "acl/acl.h"
#include "aclnn/acl_meta.h"
#include "aclnn_mse_loss_v2_grad.h"

namespace {

void Check(int status, const char* what) {
  if (status != 0) {
    std::fprintf(stderr, "%s failed with %d: %s\n", what, status, aclGetRecentErrMsg());
    std::exit(1);
  }
}

// A tensor that owns its device memory.
struct DeviceTensor {
  DeviceTensor(const std::vector<int64_t>& shape, const std::vector<float>& values)
      : bytes(values.size() * sizeof(float)) {
    Check(aclrtMalloc(&memory, bytes, ACL_MEM_MALLOC_HUGE_FIRST), "aclrtMalloc");
    Check(aclrtMemcpy(memory, bytes, values.data(), bytes, ACL_MEMCPY_HOST_TO_DEVICE),
          "aclrtMemcpy to the device");
    tensor = aclCreateTensor(shape.data(), shape.size(), ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, shape.data(),
                             shape.size(), memory);
    Check(tensor == nullptr, "aclCreateTensor");
  }
  ~DeviceTensor() {
    aclDestroyTensor(tensor);
    aclrtFree(memory);
  }
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;

  size_t bytes;
  void* memory = nullptr;
  aclTensor* tensor = nullptr;
};

void Run(aclrtStream stream) {
  const std::vector<int64_t> shape = {4, 8};
  std::vector<float> predict(32), label(32), result(32);
  for (int i = 0; i < 32; ++i) {
    predict[i] = 0.25f * static_cast<float>(i);
    label[i] = 1;
  }
  DeviceTensor x(shape, predict), t(shape, label), dout({}, {1.0f}), y(shape, result);

  uint64_t workspace_bytes = 0;
  aclOpExecutor* executor = nullptr;
  char reduction[] = "mean";
  Check(aclnnMseLossV2GradGetWorkspaceSize(x.tensor, t.tensor, dout.tensor, reduction, y.tensor,
                                           &workspace_bytes, &executor),
        "aclnnMseLossV2GradGetWorkspaceSize");
  void* workspace = nullptr;  // the operator needs none, but the framework may
  if (workspace_bytes > 0) {
    Check(aclrtMalloc(&workspace, workspace_bytes, ACL_MEM_MALLOC_HUGE_FIRST),
          "aclrtMalloc of the workspace");
  }
  Check(aclnnMseLossV2Grad(workspace, workspace_bytes, executor, stream), "aclnnMseLossV2Grad");
  Check(aclrtSynchronizeStream(stream), "aclrtSynchronizeStream");
  Check(aclrtMemcpy(result.data(), y.bytes, y.memory, y.bytes, ACL_MEMCPY_DEVICE_TO_HOST),
        "aclrtMemcpy to the host");
  if (workspace != nullptr) {
    aclrtFree(workspace);
  }
  for (int i = 0; i < 32; ++i) {
    Check(result[i] != (predict[i] - label[i]) * (2.0f / 32), "comparison with the formula");
  }
  std::printf("32 elements as expected, the last is %g\n", result[31]);
}

}  // namespace

int main() {
  Check(aclInit(nullptr), "aclInit");
  Check(aclrtSetDevice(0), "aclrtSetDevice");
  aclrtStream stream = nullptr;
  Check(aclrtCreateStream(&stream), "aclrtCreateStream");
  Run(stream);
  aclrtDestroyStream(stream);
  aclrtResetDevice(0);
  aclFinalize();
  return 0;
}
