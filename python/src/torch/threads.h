// PyTorch's threads as the library's host threads (mseloss/threads.h).
#pragma once

#include "mseloss/mseloss.h"

namespace mseloss::python {

// PyTorch's threads, limited by torch.set_num_threads(). Null if PyTorch is not loaded, if it is older than
// 2.10, whose C interface lacks them, or if they are switched off. Thread-safe.
const HostThreads* torch_threads() noexcept;

// Whether torch_threads() may return PyTorch's threads; true by default.
void use_torch_threads(bool use) noexcept;

// The options of a call on PyTorch's tensors.
Options torch_options() noexcept;

}  // namespace mseloss::python
