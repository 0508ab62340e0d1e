// The shipped kernels, compiled for the model.
#if defined(__GNUC__) && !defined(__clang__)
// GCC does not see that one condition guards the load of an element and its use.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
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
