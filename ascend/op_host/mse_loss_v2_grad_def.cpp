// The operator definition. With MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES, as CANN's operator repositories build
// it, tiling and inference are in other libraries and register themselves.
#include <vector>

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
    Declare(*this, {ge::DT_FLOAT16, ge::DT_FLOAT, ge::DT_BF16});
    this->Attr("reduction").AttrType(OPTIONAL).String("mean");
#ifndef MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES
    this->SetInferShape(InferShapeMseLossV2Grad).SetInferDataType(InferDataTypeMseLossV2Grad);
    this->AICore().SetTiling(optiling::TilingMseLossV2Grad);
#endif
    // The kernel has never run on any of these chips.
    this->AICore().AddConfig("ascend910b");    // Atlas A2
    this->AICore().AddConfig("ascend910_93");  // Atlas A3
    this->AICore().AddConfig("ascend950");
    // Atlas inference products. A chip's own dtypes replace the operator's; the flags say that dynamic shapes
    // are compiled once.
    OpAICoreConfig without_bfloat16;
    Declare(without_bfloat16, {ge::DT_FLOAT16, ge::DT_FLOAT});
    without_bfloat16.DynamicCompileStaticFlag(true)
        .DynamicFormatFlag(true)
        .DynamicRankSupportFlag(true)
        .DynamicShapeSupportFlag(true)
        .NeedCheckSupportFlag(false)
        .PrecisionReduceFlag(true);
    this->AICore().AddConfig("ascend310p", without_bfloat16);
  }

 private:
  // The inputs and the output of an operator, or of one chip's configuration.
  template <typename Definition>
  static void Declare(Definition& definition, const std::vector<ge::DataType>& dtypes) {
    const std::vector<ge::Format> formats(dtypes.size(), ge::FORMAT_ND);
    for (const char* input : {"predict", "label", "dout"}) {
      definition.Input(input)
          .ParamType(REQUIRED)
          .DataType(dtypes)
          .Format(formats)
          .UnknownShapeFormat(formats)
          .AutoContiguous();
    }
    definition.Output("y").ParamType(REQUIRED).DataType(dtypes).Format(formats).UnknownShapeFormat(formats);
  }
};

OP_ADD(MseLossV2Grad);

}  // namespace ops
