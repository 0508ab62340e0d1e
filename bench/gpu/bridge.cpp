// The C++ API on device memory as C functions, for bench/gpu/measure.py. Built without the CPU backend, so
// that it needs no library besides CUDA's.
#include <cstdint>
#include <cstring>

#include "cuda/driver.h"
#include "mseloss/types.h"
#include "plan/plan.h"

extern "C" const mseloss::cuda::Driver* mseloss_cuda_driver();

namespace {

using namespace mseloss;

// A tensor as measure.py passes it; strides in elements.
struct Array {
  void* data;
  int32_t dtype, rank;
  int64_t shape[kMaxRank], strides[kMaxRank];
};

ConstTensor view(const Array& a) {
  return {a.data,
          static_cast<DType>(a.dtype),
          {a.shape, static_cast<size_t>(a.rank)},
          {a.strides, static_cast<size_t>(a.rank)}};
}
Tensor output(const Array& a) {
  return {a.data,
          static_cast<DType>(a.dtype),
          {a.shape, static_cast<size_t>(a.rank)},
          {a.strides, static_cast<size_t>(a.rank)}};
}

}  // namespace

// Enqueues grad (loss null), loss (out null) or both. Returns 0, or 1 with the message.
extern "C" __attribute__((visibility("default"))) int mseloss_bench_call(const Array* g, const Array* x,
                                                                         const Array* y, const Array* loss,
                                                                         const Array* out, int reduction,
                                                                         void* stream, char* message) {
  Plan plan;
  const auto r = static_cast<Reduction>(reduction);
  Buffers buffers{g == nullptr ? nullptr : g->data, x->data, y->data, nullptr, nullptr};
  Status status;
  if (loss == nullptr) {
    status = make_grad_plan(view(*g), view(*x), view(*y), r, output(*out), &plan);
    buffers.data[kOut] = out->data;
  } else if (out == nullptr) {
    status = make_loss_plan(view(*x), view(*y), r, output(*loss), &plan);
    buffers.data[kOut] = buffers.data[kLossOut] = loss->data;
  } else {
    status = make_loss_and_grad_plan(view(*x), view(*y), r, view(*g), output(*loss), output(*out), &plan);
    buffers.data[kOut] = out->data;
    buffers.data[kLossOut] = loss->data;
  }
  Options options;
  options.device = Device::kCuda;
  options.stream = stream;
  if (status.ok()) status = check_buffers(plan, buffers);
  if (status.ok()) status = cuda::enqueue(*mseloss_cuda_driver(), plan, buffers, options);
  std::strcpy(message, status.message());
  return status.ok() ? 0 : 1;
}
