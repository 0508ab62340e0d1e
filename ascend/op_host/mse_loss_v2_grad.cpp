// The operator definition, and the inference of y's shape and dtype for graphs.
#include "register/op_def_registry.h"

namespace optiling {
ge::graphStatus TilingMseLossV2Grad(gert::TilingContext* context);  // mse_loss_v2_grad_tiling.cpp
}

namespace {

constexpr int64_t kUnknownDim = -1;
constexpr int64_t kUnknownRank = -2;
constexpr size_t kInputs = 3;

bool RankUnknown(const gert::Shape& shape) {
  return shape.GetDimNum() == 1 && shape.GetDim(0) == kUnknownRank;
}

// Merges an input dimension into the dimension of y; false if they do not broadcast. A known dimension other
// than 1 takes precedence over an unknown one, which may still be larger than 1.
bool MergeDim(int64_t dim, int64_t* merged) {
  if (dim == *merged || dim == 1) {
    return true;
  }
  if (*merged == 1 || *merged == kUnknownDim) {
    *merged = dim;
    return true;
  }
  return dim == kUnknownDim;
}

ge::graphStatus InferShapeMseLossV2Grad(gert::InferShapeContext* context) {
  gert::Shape* y = context->GetOutputShape(0);
  if (y == nullptr) {
    return ge::GRAPH_FAILED;
  }
  const gert::Shape* inputs[kInputs];
  size_t rank = 0;
  bool rank_unknown = false;
  for (size_t i = 0; i < kInputs; ++i) {
    inputs[i] = context->GetInputShape(i);
    if (inputs[i] == nullptr) {
      return ge::GRAPH_FAILED;
    }
    rank_unknown = rank_unknown || RankUnknown(*inputs[i]);
    rank = inputs[i]->GetDimNum() > rank ? inputs[i]->GetDimNum() : rank;
  }
  if (rank_unknown) {
    y->SetDimNum(1);
    y->SetDim(0, kUnknownRank);
    return ge::GRAPH_SUCCESS;
  }
  y->SetDimNum(rank);
  for (size_t from_end = 1; from_end <= rank; ++from_end) {
    int64_t merged = 1;
    for (const gert::Shape* input : inputs) {
      const size_t input_rank = input->GetDimNum();
      if (from_end <= input_rank && !MergeDim(input->GetDim(input_rank - from_end), &merged)) {
        return ge::GRAPH_FAILED;
      }
    }
    y->SetDim(rank - from_end, merged);
  }
  return ge::GRAPH_SUCCESS;
}

ge::graphStatus InferDataTypeMseLossV2Grad(gert::InferDataTypeContext* context) {
  return context->SetOutputDataType(0, context->GetInputDataType(0));
}

}  // namespace

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
    this->SetInferShape(InferShapeMseLossV2Grad).SetInferDataType(InferDataTypeMseLossV2Grad);
    this->AICore().SetTiling(optiling::TilingMseLossV2Grad);
    this->AICore().AddConfig("ascend910b");    // Atlas A2
    this->AICore().AddConfig("ascend910_93");  // Atlas A3
    // Never run on the chips below.
    this->AICore().AddConfig("ascend950");
    this->AICore().AddConfig("ascend310p", WithoutBfloat16());  // Atlas inference products
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
