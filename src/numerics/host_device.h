// Marks functions that the CUDA kernels share with the CPU: there they are compiled for both.
#pragma once

#if defined(__CUDACC__)
#define MSELOSS_HOST_DEVICE __host__ __device__
#else
#define MSELOSS_HOST_DEVICE
#endif
