// libmseloss_cuda.so: the kernels compiled for CUDA devices, and the driver over the CUDA runtime. It is
// linked with the static runtime, so it loads on machines without a driver and reports that there is none.
#include <cuda_runtime.h>

#include <cstring>
#include <mutex>

#include "cuda/kernels/table.h"

// The rounding of sums, for the device.
#include "numerics/fixed_point.cpp"

namespace mseloss::cuda {
namespace {

const char* text_of(cudaError_t error) {
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();  // clears it
  return cudaGetErrorString(error);
}

const char* enter(int index, DeviceInfo* info, int* previous) {
  if (const char* error = text_of(cudaGetDevice(previous))) return error;
  if (index < 0) index = *previous;
  if (index != *previous) {
    if (const char* error = text_of(cudaSetDevice(index))) return error;
  }
  const cudaError_t error =
      cudaDeviceGetAttribute(&info->multiprocessors, cudaDevAttrMultiProcessorCount, index);
  info->index = index;
  info->min_terms = 16;
  info->max_blocks = int64_t{64} * info->multiprocessors;
  return text_of(error);
}

void leave(int previous) { cudaSetDevice(previous); }

const char* describe(DeviceInfo* info) {
  cudaDeviceProp properties;
  if (const char* error = text_of(cudaGetDeviceProperties(&properties, info->index))) return error;
  std::strncpy(info->name, properties.name, sizeof(info->name) - 1);
  return nullptr;
}

bool accessible(const void* address) {
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, address) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  if (attributes.type != cudaMemoryTypeUnregistered) return true;
  int device = 0, pageable = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&pageable, cudaDevAttrPageableMemoryAccess, device);
  return pageable != 0;
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

// A pool for each device, which keeps what calls free. The default pool would return it to the driver at the
// next synchronisation, and its settings belong to the process.
constexpr int kPools = 64;
constexpr uint64_t kKept = uint64_t{64} << 20;  // bytes; more than any but the largest sums of slices take

cudaMemPool_t pool_of(int device) {
  static std::mutex mutex;
  static cudaMemPool_t pools[kPools];
  if (device < 0 || device >= kPools) return nullptr;
  const std::lock_guard lock(mutex);
  if (pools[device] != nullptr) return pools[device];
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool = nullptr;
  uint64_t kept = kKept;
  if (cudaMemPoolCreate(&pool, &properties) != cudaSuccess ||
      cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return pools[device] = pool;
}

const char* allocate(size_t bytes, void* stream, void** address) {
  int device = 0;
  if (const char* error = text_of(cudaGetDevice(&device))) return error;
  const cudaMemPool_t pool = pool_of(device);
  return text_of(pool == nullptr ? cudaMallocAsync(address, bytes, stream_of(stream))
                                 : cudaMallocFromPoolAsync(address, bytes, pool, stream_of(stream)));
}
void release(void* address, void* stream) { cudaFreeAsync(address, stream_of(stream)); }
const char* zero(void* address, size_t bytes, void* stream) {
  return text_of(cudaMemsetAsync(address, 0, bytes, stream_of(stream)));
}

// Parameters of kernels take at most 4 KiB before CUDA 12.1.
static_assert(sizeof(SumArguments) <= 4096 && sizeof(TileArguments) <= 4096);

const void* functions[kKernels];
[[maybe_unused]] const bool filled = [] {
  for_each_kernel(
      [](int kernel, auto* function) { functions[kernel] = reinterpret_cast<const void*>(function); });
  return true;
}();

const char* launch(Kernel kernel, Grid grid, const void* arguments, void* stream) {
  void* pointers[] = {const_cast<void*>(arguments)};
  return text_of(cudaLaunchKernel(functions[kernel], dim3(grid.x, grid.y), dim3(kThreads), pointers, 0,
                                  stream_of(stream)));
}

const char* copy(void* to, const void* from, size_t bytes, void* stream) {
  return text_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(stream)));
}
const char* wait(void* stream) { return text_of(cudaStreamSynchronize(stream_of(stream))); }

constexpr Driver kDriver{MSELOSS_VERSION, enter, leave,  describe, accessible, allocate,
                         release,         zero,  launch, copy,     wait};

}  // namespace
}  // namespace mseloss::cuda

extern "C" __attribute__((visibility("default"))) const mseloss::cuda::Driver* mseloss_cuda_driver() {
  return &mseloss::cuda::kDriver;
}
