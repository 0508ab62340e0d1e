// The objects behind aclScalar, the arrays and the lists: values that operators of other libraries take. The
// operators here use none of them, but helper templates of callers create, query and destroy them.
#pragma once

#include <cstddef>

#include "aclnn/acl_meta.h"

namespace mseloss::aclnn {

// Sets *element to the tensor at `position`. Errors: 161002 for a destroyed list or a position out of range.
aclnnStatus element_of(const char* function, const aclTensorList* list, size_t position,
                       const aclTensor** element) noexcept;

}  // namespace mseloss::aclnn
