// A minimal complete program that calls aclnnMseLossBackward, written as for an NPU:
//   out = gradOutput * (self - target) * 2 / 4
// Builds unchanged against CANN, and against mseloss with ASCEND_CUSTOM_PATH=PREFIX/cann.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "acl/acl.h"
#include "aclnnop/aclnn_mse_loss_backward.h"

#define CHECK(call)                                                       \
  if (const int code = (call); code != 0) {                               \
    std::printf("%s: error %d\n%s\n", #call, code, aclGetRecentErrMsg()); \
    return 1;                                                             \
  }

namespace {

// Device memory with a copy of `values`, and a tensor that covers it.
struct DeviceTensor {
  void* memory = nullptr;
  aclTensor* tensor = nullptr;

  int create(const std::vector<float>& values, const std::vector<int64_t>& shape) {
    const size_t bytes = values.size() * sizeof(float);
    CHECK(aclrtMalloc(&memory, bytes, ACL_MEM_MALLOC_HUGE_FIRST));
    CHECK(aclrtMemcpy(memory, bytes, values.data(), bytes, ACL_MEMCPY_HOST_TO_DEVICE));
    tensor = aclCreateTensor(shape.data(), shape.size(), ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, shape.data(),
                             shape.size(), memory);
    return tensor == nullptr;
  }
  ~DeviceTensor() {
    aclDestroyTensor(tensor);
    if (memory != nullptr) aclrtFree(memory);
  }
};

int run(aclrtStream stream) {
  const std::vector<int64_t> shape = {2, 2};
  DeviceTensor grad_output, self, target, out;
  CHECK(grad_output.create({1, 1, 1, 1}, shape));
  CHECK(self.create({1, 2, 3, 4}, shape));
  CHECK(target.create({1, 1, 1, 1}, shape));
  CHECK(out.create({0, 0, 0, 0}, shape));

  // The first phase checks the arguments and returns the workspace size.
  const int64_t mean = 1;
  uint64_t workspace_size = 0;
  aclOpExecutor* executor = nullptr;
  CHECK(aclnnMseLossBackwardGetWorkspaceSize(grad_output.tensor, self.tensor, target.tensor, mean, out.tensor,
                                             &workspace_size, &executor));
  void* workspace = nullptr;
  if (workspace_size > 0) CHECK(aclrtMalloc(&workspace, workspace_size, ACL_MEM_MALLOC_HUGE_FIRST));

  // The second phase queues the run on the stream; the result is valid after synchronisation.
  CHECK(aclnnMseLossBackward(workspace, workspace_size, executor, stream));
  CHECK(aclrtSynchronizeStream(stream));

  std::vector<float> result(4);
  CHECK(aclrtMemcpy(result.data(), 16, out.memory, 16, ACL_MEMCPY_DEVICE_TO_HOST));
  for (const float value : result) std::printf("%g ", value);
  std::printf("\n");  // 0 0.5 1 1.5
  if (workspace != nullptr) aclrtFree(workspace);
  return result == std::vector<float>{0, 0.5, 1, 1.5} ? 0 : 1;
}

}  // namespace

int main() {
  CHECK(aclInit(nullptr));
  CHECK(aclrtSetDevice(0));
  aclrtStream stream = nullptr;
  CHECK(aclrtCreateStream(&stream));
  const int failed = run(stream);
  CHECK(aclrtDestroyStream(stream));
  CHECK(aclrtResetDevice(0));
  CHECK(aclFinalize());
  return failed;
}
