// The CUDA kernels on the model of the device, against the oracle.
#include <gtest/gtest.h>

#include "tests/cuda/battery.h"

namespace {

using mseloss::cuda::model::kernels;

TEST(CudaModel, EveryKernelInManySchedules_EqualsTheOracle) { EXPECT_EQ(battery::all(kernels(), true), ""); }

}  // namespace
