// mseloss_small_calls CASE CALLS: makes small calls for callgrind to count (budget.py).
#include <cstdlib>
#include <cstring>
#include <vector>

#include "mseloss/mseloss.h"

#if MSELOSS_BENCH_ACL
#include "acl/acl.h"
#include "aclnnop/aclnn_mse_loss_backward.h"
#endif

namespace {

using mseloss::Reduction;

constexpr int kUnknownCase = 3;  // exit status; budget.py skips the case

struct Arrays {
  std::vector<float> x, y, g, out;
  explicit Arrays(size_t n) : x(n, 1.5f), y(n, 0.25f), g(n, 1.0f), out(n) {}
};

// `rows` rows of `n` elements, row pitch in elements.
bool grad(Arrays* a, int64_t rows, int64_t n, int64_t pitch) {
  const int64_t shape[] = {rows, n}, strides[] = {pitch, 1};
  return mseloss::grad({a->g.data(), shape, strides}, {a->x.data(), shape, strides},
                       {a->y.data(), shape, strides}, Reduction::kMean, {a->out.data(), shape, strides})
      .ok();
}

bool loss(Arrays* a, int64_t n) {
  const int64_t shape[] = {n};
  return mseloss::loss({a->x.data(), shape}, {a->y.data(), shape}, Reduction::kMean, {a->out.data()}).ok();
}

bool fused(Arrays* a, int64_t n) {
  const int64_t shape[] = {n};
  float value;
  return mseloss::loss_and_grad({a->x.data(), shape}, {a->y.data(), shape}, Reduction::kMean, {a->g.data()},
                                {&value}, {a->out.data(), shape})
      .ok();
}

using Call = bool (*)(Arrays*);
struct Case {
  const char* name;
  Call call;
};

#if MSELOSS_BENCH_ACL
// Both phases of a gradient of 16 elements, and a synchronisation.
struct AclnnCall {
  aclTensor *g, *x, *y, *out;
  aclrtStream stream = nullptr;

  explicit AclnnCall(Arrays* a) : g(tensor(a->g)), x(tensor(a->x)), y(tensor(a->y)), out(tensor(a->out)) {
    if (aclInit(nullptr) != 0 || aclrtSetDevice(0) != 0 || aclrtCreateStream(&stream) != 0) std::abort();
  }
  static aclTensor* tensor(std::vector<float>& values) {
    constexpr int64_t kCount[] = {16}, kStride[] = {1};
    return aclCreateTensor(kCount, 1, ACL_FLOAT, kStride, 0, ACL_FORMAT_ND, kCount, 1, values.data());
  }
  bool run() const {
    uint64_t bytes = 0;
    aclOpExecutor* executor = nullptr;
    return aclnnMseLossBackwardGetWorkspaceSize(g, x, y, 1, out, &bytes, &executor) == 0 &&
           aclnnMseLossBackward(nullptr, bytes, executor, stream) == 0 && aclrtSynchronizeStream(stream) == 0;
  }
};
#endif

constexpr Case kCases[] = {
    {"grad_16", [](Arrays* a) { return grad(a, 1, 16, 16); }},
    {"loss_16", [](Arrays* a) { return loss(a, 16); }},
    {"fused_16", [](Arrays* a) { return fused(a, 16); }},
    {"grad_16384", [](Arrays* a) { return grad(a, 1, 16384, 16384); }},
    {"loss_16384", [](Arrays* a) { return loss(a, 16384); }},
    {"rows_64x128", [](Arrays* a) { return grad(a, 64, 128, 160); }},
    {"inner_1024x7", [](Arrays* a) { return grad(a, 1024, 7, 8); }},
#if MSELOSS_BENCH_ACL
    {"aclnn_16",
     [](Arrays* a) {
       static const AclnnCall aclnn(a);
       return aclnn.run();
     }},
#endif
};

}  // namespace

// callgrind counts only inside this function. It excludes start-up, whose work depends on the clock (libhwy
// measures its resolution), and the first call, which selects the kernels.
extern "C" [[gnu::noinline]] int counted_calls(Call call, Arrays* arrays, long calls) {
  for (; calls > 0; --calls) {
    if (!call(arrays)) return 1;
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  for (const Case& c : kCases) {
    if (std::strcmp(c.name, argv[1]) != 0) continue;
    Arrays arrays(64 * 1024);
    if (!c.call(&arrays)) return 1;
    return counted_calls(c.call, &arrays, std::atol(argv[2]));
  }
  return kUnknownCase;
}
