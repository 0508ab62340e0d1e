// The operator definition. With MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES, as CANN's operator repositories build
// it, tiling and inference are in other libraries and register themselves.
#include "register/op_def_registry.h"

#ifndef MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES
namespace optiling {
ge::graphStatus TilingMseLossV2Grad(gert::TilingContext* context);  // mse_loss_v2_grad_tiling.cpp
}

namespace ops {
ge::graphStatus InferShapeMseLossV2Grad(gert::InferShapeContext* context);  // mse_loss_v2_grad_infershape.cpp
ge::graphStatus InferDataTypeMseLossV2Grad(gert::InferDataTypeContext* context);
}  // namespace ops
#endif

namespace ops {

class MseLossV2Grad : public OpDef {
 public:
  explicit MseLossV2Grad(const char* name) : OpDef(name) {
    for (const char* input : {"predict", "label", "dout"}) {
      this->Input(input)
          .ParamType(REQUIRED)
          .DataType({ge::DT_FLOAT16, ge::DT_FLOAT, ge::DT_BF16})
          .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND})
          .UnknownShapeFormat({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND})
          .AutoContiguous();
    }
    this->Output("y")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT16, ge::DT_FLOAT, ge::DT_BF16})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND})
        .UnknownShapeFormat({ge::FORMAT_ND, ge::FORMAT_ND, ge::FORMAT_ND});
    this->Attr("reduction").AttrType(OPTIONAL).String("mean");
#ifndef MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES
    this->SetInferShape(InferShapeMseLossV2Grad).SetInferDataType(InferDataTypeMseLossV2Grad);
    this->AICore().SetTiling(optiling::TilingMseLossV2Grad);
#endif
    this->AICore().AddConfig("ascend910b");    // Atlas A2
    this->AICore().AddConfig("ascend910_93");  // Atlas A3
    // Never run on the chips below.
    this->AICore().AddConfig("ascend950");
    OpAICoreConfig without_bfloat16 = WithoutBfloat16();
    this->AICore().AddConfig("ascend310p", without_bfloat16);  // Atlas inference products
  }

 private:
  // A chip's own dtypes replace those above; the flags say that dynamic shapes are compiled once.
  static OpAICoreConfig WithoutBfloat16() {
    OpAICoreConfig config;
    for (const char* input : {"predict", "label", "dout"}) {
      config.Input(input)
          .ParamType(REQUIRED)
          .DataType({ge::DT_FLOAT16, ge::DT_FLOAT})
          .Format({ge::FORMAT_ND, ge::FORMAT_ND})
          .UnknownShapeFormat({ge::FORMAT_ND, ge::FORMAT_ND})
          .AutoContiguous();
    }
    config.Output("y")
        .ParamType(REQUIRED)
        .DataType({ge::DT_FLOAT16, ge::DT_FLOAT})
        .Format({ge::FORMAT_ND, ge::FORMAT_ND})
        .UnknownShapeFormat({ge::FORMAT_ND, ge::FORMAT_ND});
    config.DynamicCompileStaticFlag(true)
        .DynamicFormatFlag(true)
        .DynamicRankSupportFlag(true)
        .DynamicShapeSupportFlag(true)
        .NeedCheckSupportFlag(false)
        .PrecisionReduceFlag(true);
    return config;
  }
};

OP_ADD(MseLossV2Grad);

}  // namespace ops
