// The shipped kernels, compiled for the model.
#define MSELOSS_CUDA_MODEL
#include "cuda/kernels/table.h"
#include "cuda/model/model.h"

namespace mseloss::cuda::model {

const Table& kernels() {
  static const Table table = [] {
    Table filled;
    for_each_kernel(Fill{&filled});
    return filled;
  }();
  return table;
}

}  // namespace mseloss::cuda::model
