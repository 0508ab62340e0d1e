// Every instance of the kernels, by Kernel.
#pragma once

#include "cuda/driver.h"
#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/exact.h"
#include "cuda/kernels/sums.h"
#include "cuda/kernels/tile.h"

namespace mseloss::cuda {

// Calls visit(kernel, function) for each. The dtypes are in the order of DType.
template <class Visit>
void for_each_kernel(Visit visit) {
  const auto dtypes = [&](int first, auto f32, auto f16, auto bf16, auto f64) {
    visit(first, f32);
    visit(first + 1, f16);
    visit(first + 2, bf16);
    visit(first + 3, f64);
  };
  const auto elementwise = [&]<bool kRows>(int grad, int loss, int both) {
    dtypes(grad, dense<Float32, Op::kGrad, kRows>, dense<Float16, Op::kGrad, kRows>,
           dense<BFloat16, Op::kGrad, kRows>, dense<Float64, Op::kGrad, kRows>);
    dtypes(loss, dense<Float32, Op::kLoss, kRows>, dense<Float16, Op::kLoss, kRows>,
           dense<BFloat16, Op::kLoss, kRows>, dense<Float64, Op::kLoss, kRows>);
    dtypes(both, dense<Float32, Op::kLossAndGrad, kRows>, dense<Float16, Op::kLossAndGrad, kRows>,
           dense<BFloat16, Op::kLossAndGrad, kRows>, dense<Float64, Op::kLossAndGrad, kRows>);
  };
  elementwise.template operator()<false>(kDenseGrad, kDenseLoss, kDenseGradAndLoss);
  elementwise.template operator()<true>(kRowsGrad, kRowsLoss, kRowsGradAndLoss);
  dtypes(kDenseSum, dense_sum<Float32, false>, dense_sum<Float16, false>, dense_sum<BFloat16, false>,
         dense_sum<Float64, false>);
  dtypes(kDenseGradAndSum, dense_sum<Float32, true>, dense_sum<Float16, true>, dense_sum<BFloat16, true>,
         dense_sum<Float64, true>);
  const auto computes = [&](int first, auto f32, auto f64) {
    visit(first, f32);
    visit(first + 1, f64);
  };
  computes(kGeneral, general<float>, general<double>);
  computes(kTile, tile<float>, tile<double>);
  computes(kGeneralSum, general_sum<float>, general_sum<double>);
  computes(kExactSum, exact_sum<float>, exact_sum<double>);
}

}  // namespace mseloss::cuda
