// The library with the kernels, libmseloss_cuda.so.
#pragma once

#include "cuda/driver.h"

namespace mseloss::cuda {

// Loads the library the first time: from the folder of this library, else from where the dynamic linker finds
// it; MSELOSS_CUDA_LIBRARY names another file. It needs no CUDA toolkit, and a driver only when a kernel
// runs. Error: kDevice.
Status load_driver(const Driver** driver);

// Enqueues a plan whose operands are in device memory.
Status run_on_device(const Plan& plan, const Buffers& buffers, const Options& options);
// Runs a sweep for PartialSum over them, and waits for it.
Status sum_on_device(const Plan& plan, const Buffers& buffers, const SumRequest& request,
                     const Options& options, const SumTarget& target);
// As Backend::copy.
Status copy_on_device(void* to, const void* from, size_t bytes, bool wait, const Options& options);

}  // namespace mseloss::cuda
