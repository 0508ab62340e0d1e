// What the backend needs of a device: the CUDA runtime (device.cu, in a library of its own) or the model.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend.h"
#include "cuda/arguments.h"

namespace mseloss::cuda {

// The kernels. Those of one dtype are numbered by DType, those of a compute type by 0 (float32), 1 (float64).
enum Kernel : int {
  kDenseGrad,
  kDenseLoss = kDenseGrad + 4,
  kDenseGradAndLoss = kDenseLoss + 4,
  kRowsGrad = kDenseGradAndLoss + 4,
  kRowsLoss = kRowsGrad + 4,
  kRowsGradAndLoss = kRowsLoss + 4,
  kDenseSum = kRowsGradAndLoss + 4,
  kDenseGradAndSum = kDenseSum + 4,
  kGeneral = kDenseGradAndSum + 4,
  kTile = kGeneral + 2,
  kGeneralSum = kTile + 2,
  kExactSum = kGeneralSum + 2,
  kKernels = kExactSum + 2,
};

struct Grid {
  uint32_t x, y;
};

struct DeviceInfo {
  int index;
  int multiprocessors;
  int64_t min_terms;   // terms per thread below which a sum takes fewer blocks
  int64_t max_blocks;  // of a launch; blocks take further tiles when there are more
  char name[64];
};

// Functions return null on success, otherwise an error text with static lifetime.
struct Driver {
  const char* version;  // of this library, which both sides must share
  // Makes a device current; -1 keeps the current one. leave() restores the previous one.
  const char* (*enter)(int index, DeviceInfo* info, int* previous);
  void (*leave)(int previous);
  const char* (*describe)(DeviceInfo* info);  // fills in the name
  // Whether the current device can access the address.
  bool (*accessible)(const void* address);
  const char* (*allocate)(size_t bytes, void* stream, void** address);
  void (*release)(void* address, void* stream);
  const char* (*zero)(void* address, size_t bytes, void* stream);
  const char* (*launch)(Kernel kernel, Grid grid, const void* arguments, void* stream);
  // For operands in host memory: copy in either direction in stream order, and wait for the stream.
  const char* (*copy)(void* to, const void* from, size_t bytes, void* stream);
  const char* (*wait)(void* stream);
};

// Makes a device current for the duration of a scope.
class CurrentDevice {
 public:
  CurrentDevice(const Driver& driver, int index)
      : driver_(driver), error_(driver.enter(index, &info_, &previous_)) {}
  ~CurrentDevice() {
    if (error_ == nullptr) driver_.leave(previous_);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

  const char* error() const { return error_; }
  const DeviceInfo& info() const { return info_; }

 private:
  const Driver& driver_;
  DeviceInfo info_{};
  int previous_ = 0;
  const char* error_;
};

// Enqueues a checked plan through a driver.
Status enqueue(const Driver& driver, const Plan& plan, const Buffers& buffers, const Options& options);

// The operands that the sweep accesses.
unsigned operands_of(const Plan& plan, const SumRequest& request);
// Runs a sweep for PartialSum through a driver, and waits for it.
Status sum(const Driver& driver, const Plan& plan, const Buffers& buffers, const SumRequest& request,
           const Options& options, const SumTarget& target);
// Copies through a driver, as Backend::copy.
Status copy(const Driver& driver, void* to, const void* from, size_t bytes, bool wait,
            const Options& options);

}  // namespace mseloss::cuda
