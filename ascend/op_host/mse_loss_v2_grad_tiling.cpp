// Tiling: validates a call and partitions it among the cores. No later stage validates.
#include <cstdio>
#include <cstring>

#include "mse_loss_v2_grad_split.h"
#ifdef MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES
#include "register/op_impl_registry.h"
#else
#include "register/op_def_registry.h"
#endif

// Reports the reason of a failure. CANN's log is not part of the documented interface, so a build can define
// another function.
#ifndef MSE_LOSS_V2_GRAD_REPORT
#define MSE_LOSS_V2_GRAD_REPORT(reason) std::fprintf(stderr, "MseLossV2Grad: %s\n", reason)
#endif

namespace optiling {
namespace {

using mse_loss_split::Call;
using mse_loss_split::Dims;
using mse_loss_split::Platform;

bool ReadShape(const gert::StorageShape* storage, Dims* shape) {
  const gert::Shape& from = storage->GetStorageShape();
  shape->rank = static_cast<int64_t>(from.GetDimNum());
  if (shape->rank > mse_loss_split::kMaxRank) {
    return false;
  }
  for (int64_t i = 0; i < shape->rank; ++i) {
    shape->dim[i] = from.GetDim(static_cast<size_t>(i));
  }
  return true;
}

// Returns null for a call that can be read, else the reason of the error.
const char* ReadCall(gert::TilingContext* context, const Platform& platform, Call* call) {
  ge::DataType dtype = ge::DT_UNDEFINED;
  for (size_t i = 0; i <= kMseInputs; ++i) {
    const bool output = i == kMseInputs;
    const gert::CompileTimeTensorDesc* desc = output ? context->GetOutputDesc(0) : context->GetInputDesc(i);
    const gert::StorageShape* shape = output ? context->GetOutputShape(0) : context->GetInputShape(i);
    if (desc == nullptr || shape == nullptr) {
      return "predict, label, dout and y must all have a shape and a dtype";
    }
    if (i == 0) {
      dtype = desc->GetDataType();
      if (dtype != ge::DT_FLOAT && dtype != ge::DT_FLOAT16 && dtype != ge::DT_BF16) {
        return "predict must be float32, float16 or bfloat16";
      }
      if (dtype == ge::DT_BF16 && platform.whole_blocks) {
        return "this chip has no bfloat16";
      }
      call->element_size = dtype == ge::DT_FLOAT ? 4 : 2;
    }
    if (desc->GetDataType() != dtype) {
      return "predict, label, dout and y must have one dtype";
    }
    if (!ReadShape(shape, output ? &call->y : &call->input[i])) {
      return "a shape has more than 8 dimensions";
    }
  }
  const gert::RuntimeAttrs* attrs = context->GetAttrs();
  const char* reduction = attrs == nullptr ? nullptr : attrs->GetStr(0);
  if (reduction == nullptr) {
    return "reduction is missing";
  }
  call->mean = std::strcmp(reduction, "mean") == 0;
  if (!call->mean && std::strcmp(reduction, "sum") != 0 && std::strcmp(reduction, "none") != 0) {
    return "reduction must be none, mean or sum";
  }
  return nullptr;
}

ge::graphStatus Refuse(const char* reason) {
  MSE_LOSS_V2_GRAD_REPORT(reason);
  return ge::GRAPH_FAILED;
}

}  // namespace

ge::graphStatus TilingMseLossV2Grad(gert::TilingContext* context) {
  if (context == nullptr || context->GetPlatformInfo() == nullptr) {
    return Refuse("the tiling context or its platform is missing");
  }
  const Platform platform =
      mse_loss_split::PlatformOf(platform_ascendc::PlatformAscendC(context->GetPlatformInfo()));
  Call call;
  const char* reason = ReadCall(context, platform, &call);
  if (reason != nullptr) {
    return Refuse(reason);
  }
  auto* t = context->GetTilingData<MseLossV2GradTilingData>();
  if (t == nullptr) {
    return Refuse("there is no room for the tiling data");
  }
  int64_t cores = 0;
  reason = mse_loss_split::Split(call, platform, t, &cores);
  if (reason != nullptr) {
    return Refuse(reason);
  }
  context->SetBlockDim(static_cast<uint32_t>(cores));
  size_t* workspace = context->GetWorkspaceSizes(1);
  if (workspace != nullptr) {
    workspace[0] = 0;
  }
  return ge::GRAPH_SUCCESS;
}

#ifdef MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES
struct MseLossV2GradCompileInfo {};

static ge::graphStatus ParseMseLossV2Grad(gert::TilingParseContext*) { return ge::GRAPH_SUCCESS; }

IMPL_OP_OPTILING(MseLossV2Grad)
    .Tiling(TilingMseLossV2Grad)
    .TilingParse<MseLossV2GradCompileInfo>(ParseMseLossV2Grad);
#endif

}  // namespace optiling
