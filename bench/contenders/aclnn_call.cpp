#include "bench/contenders/aclnn_call.h"

#if MSELOSS_BENCH_ACL
#include <cstdio>
#include <cstdlib>

#include "acl/acl.h"
#include "aclnnop/aclnn_mse_loss_backward.h"

namespace bench {
namespace {

constexpr int64_t kCount[] = {16}, kStride[] = {1};

aclTensor* tensor(aclDataType dtype) {
  void* memory = nullptr;
  if (aclrtMalloc(&memory, 64, ACL_MEM_MALLOC_HUGE_FIRST) != 0) return nullptr;
  return aclCreateTensor(kCount, 1, dtype, kStride, 0, ACL_FORMAT_ND, kCount, 1, memory);
}

void require(bool ok) {
  if (ok) return;
  std::fprintf(stderr, "aclnn: %s\n", aclGetRecentErrMsg());
  std::abort();
}

}  // namespace

std::function<void()> aclnn_call(DType dtype) {
  static const bool ready = aclInit(nullptr) == 0 && aclrtSetDevice(0) == 0;
  static aclrtStream stream = nullptr;
  if (!ready || (stream == nullptr && aclrtCreateStream(&stream) != 0)) return {};
  const aclDataType type = dtype == DType::kFloat32   ? ACL_FLOAT
                           : dtype == DType::kFloat16 ? ACL_FLOAT16
                                                      : ACL_BF16;
  // Never destroyed: the call may run until the process ends.
  aclTensor *g = tensor(type), *x = tensor(type), *y = tensor(type), *out = tensor(type);
  return [=] {
    uint64_t bytes = 0;
    aclOpExecutor* executor = nullptr;
    require(aclnnMseLossBackwardGetWorkspaceSize(g, x, y, 1, out, &bytes, &executor) == 0 && bytes == 0);
    require(aclnnMseLossBackward(nullptr, 0, executor, stream) == 0);
    require(aclrtSynchronizeStream(stream) == 0);
  };
}

}  // namespace bench

#else

namespace bench {
std::function<void()> aclnn_call(DType) { return {}; }
}  // namespace bench

#endif
