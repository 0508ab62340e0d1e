// MSELOSS_DEVICE=cuda-model: every call on host memory runs the CUDA kernels on the model.
#pragma once

#include "cuda/driver.h"
#include "cuda/model/machine.h"

namespace mseloss::cuda::model {

// A kernel of the model: call(function, arguments).
struct Entry {
  void (*call)(const void* function, const void* arguments) = nullptr;
  const void* function = nullptr;
};
struct Table {
  Entry entry[kKernels];
};
// The kernels as they ship. Tests run variants of them.
const Table& kernels();

// Fills a table from the for_each_kernel() of a namespace.
struct Fill {
  Table* table;
  template <class Arguments>
  void operator()(int kernel, void (*function)(const Arguments&)) const {
    table->entry[kernel] = {[](const void* f, const void* arguments) {
                              reinterpret_cast<void (*)(const Arguments&)>(const_cast<void*>(f))(
                                  *static_cast<const Arguments*>(arguments));
                            },
                            reinterpret_cast<const void*>(function)};
  }
};

// A driver over the calling thread's machine that runs these kernels.
const Driver& driver(const Table& table);

// Runs a checked plan on the calling thread's machine; every violation is an error of Code::kDevice.
Status run(const Table& table, const Plan& plan, const Buffers& buffers, const Options& options);
// The same for a sweep of PartialSum.
Status sum(const Table& table, const Plan& plan, const Buffers& buffers, const SumRequest& request,
           const Options& options, const SumTarget& target);

}  // namespace mseloss::cuda::model
