// MSELOSS_DEVICE=ascend-model: runs aclnnMseLossBackward on the functional model of the Ascend kernel. The
// kernel handles only contiguous tensors of one dtype, so, as CANN's aclnn layer does, this file copies
// non-contiguous inputs to contiguous memory, computes in their dtype, and casts the result into the output's
// view.
#include <cstring>
#include <string>
#include <vector>

#include "aclnn/device.h"
#include "ascend/model/run.h"
#include "numerics/float_environment.h"
#include "numerics/formats.h"

namespace mseloss::aclnn {
namespace {

using Bytes = std::vector<unsigned char>;

int64_t count_of(const OperandView& view) {
  int64_t count = 1;
  for (int d = 0; d < view.rank; ++d) count *= view.extent[d];
  return count;
}

bool is_contiguous(const OperandView& view) {
  int64_t step = 1;
  for (int d = view.rank; d-- > 0;) {
    if (view.extent[d] != 1 && view.stride[d] != step) return false;
    step *= view.extent[d];
  }
  return true;
}

// Calls visit(element, offset), both counted in elements, in row-major order.
template <class Visit>
void for_each_element(const OperandView& view, Visit visit) {
  int64_t index[kMaxRank] = {}, offset = 0;
  const int64_t count = count_of(view);
  for (int64_t element = 0; element < count; ++element) {
    visit(element, offset);
    for (int d = view.rank; d-- > 0;) {
      offset += view.stride[d];
      if (++index[d] < view.extent[d]) break;
      offset -= index[d] * view.stride[d];
      index[d] = 0;
    }
  }
}

// The tensor itself if it is contiguous, else its elements in *copy.
ascend_model::Tensor contiguous_copy(const OperandView& view, const void* data, Bytes* copy) {
  ascend_model::Tensor tensor{{view.extent, view.extent + view.rank}, data};
  if (is_contiguous(view)) return tensor;
  const int size = size_of(view.dtype);
  copy->resize(static_cast<size_t>(count_of(view) * size));
  for_each_element(view, [&](int64_t element, int64_t offset) {
    std::memcpy(&(*copy)[element * size], static_cast<const unsigned char*>(data) + offset * size, size);
  });
  tensor.data = copy->data();
  return tensor;
}

ascend_model::DType model_dtype(DType dtype) {
  return dtype == DType::kFloat32   ? ascend_model::DType::kFloat32
         : dtype == DType::kFloat16 ? ascend_model::DType::kFloat16
                                    : ascend_model::DType::kBfloat16;
}

Status run_on_model(const Call& call, const Buffers& buffers) {
  // The gradient is the only Ascend kernel; the losses run on the CPU.
  if (call.plan.op != Op::kGrad) return run_on_backend(call, buffers);
  if (call.plan.numel == 0) return {};
  const OperandView& out = call.views[kOut];
  const DType dtype = call.plan.dtype;
  Bytes copies[3], result(static_cast<size_t>(call.plan.numel * size_of(dtype)));
  ascend_model::Request request;
  request.dtype = model_dtype(dtype);
  request.reduction = name_of(call.plan.reduction);
  request.predict = contiguous_copy(call.views[kInput], buffers[kInput], &copies[0]);
  request.label = contiguous_copy(call.views[kTarget], buffers[kTarget], &copies[1]);
  request.dout = contiguous_copy(call.views[kGradOutput], buffers[kGradOutput], &copies[2]);
  request.y_shape.assign(out.extent, out.extent + out.rank);
  request.y = result.data();
  if (const std::string error = ascend_model::Run(request); !error.empty()) {
    return Status::error(Code::kTarget, "ascend-model: %s", error.c_str());
  }
  const FloatEnvironment environment;
  for_each_element(out, [&](int64_t element, int64_t offset) {
    const double value = load(dtype, &result[element * size_of(dtype)]);
    store_rounded(value, out.dtype, static_cast<unsigned char*>(buffers[kOut]) + offset * size_of(out.dtype));
  });
  return {};
}

[[maybe_unused]] const bool g_registered = [] {
  static Device model{.name = "ascend-model", .run = run_on_model, .reads_views = true};
  register_device(&model);
  return true;
}();

}  // namespace
}  // namespace mseloss::aclnn
