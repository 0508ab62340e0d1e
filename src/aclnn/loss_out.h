// aclnnMseLossOut with mean or sum: the loss reduced over dimension 0 of the broadcast shape.
#pragma once

#include "aclnn/device.h"

namespace mseloss::aclnn {

// Fills call->plan, the plan of the sum over all elements. Sets call->first_dimension if the broadcast shape
// has more than one dimension; otherwise that sum is the result. Errors: as make_loss_plan(), but `out` must
// have the broadcast shape without its first dimension. The caller fills call->views.
Status make_loss_out_call(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                          const mseloss::Tensor& out, Call* call, const Names& names);

// For a call with first_dimension set: null pointers, and an output that overlaps an input.
Status check_loss_out_buffers(const Call& call, const Buffers& buffers, const Names& names);

// For a call with first_dimension set: each element of `out` is the exact sum of its column, or that sum
// divided by the number of rows, rounded to the inputs' promoted dtype and then converted to out's dtype.
// Without rows sum writes 0 and mean NaN. Error: kOutOfMemory.
Status run_loss_out(const Call& call, const Buffers& buffers);

}  // namespace mseloss::aclnn
