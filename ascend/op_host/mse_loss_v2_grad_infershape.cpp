// Inference of y's shape and dtype for graphs.
#ifdef MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES
#include "register/op_impl_registry.h"
#else
#include "register/op_def_registry.h"
#endif

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

}  // namespace

namespace ops {

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

#ifdef MSE_LOSS_V2_GRAD_SEPARATE_LIBRARIES
IMPL_OP_INFERSHAPE(MseLossV2Grad)
    .InferShape(InferShapeMseLossV2Grad)
    .InferDataType(InferDataTypeMseLossV2Grad);
#endif

}  // namespace ops
