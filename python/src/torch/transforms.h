// The loss under torch.func's grad and vmap, without the interpreter.
#pragma once

#include <ATen/ATen.h>

#include "mseloss/mseloss.h"
#include "torch/calls.h"

namespace mseloss::python {

// Registers the operators that transformed_loss() calls; once in a process, whichever module is the first.
void register_transforms();

// The loss of two tensors of the same shape and dtype under levels of grad and vmap, each of which records
// what it needs. `slices.weight`, if there is one, broadcasts to that shape. Undefined, to leave the call to
// Python, for other tensors, without levels, under others or autocast, for a weight that requires a gradient,
// and if the tensors and their batch dimensions have more than 8 dimensions together. Needs the GIL, which it
// releases for the calls that it does not leave to Python.
at::Tensor transformed_loss(const at::Tensor& input, const at::Tensor& target, const Slices& slices,
                            Reduction reduction);

}  // namespace mseloss::python
