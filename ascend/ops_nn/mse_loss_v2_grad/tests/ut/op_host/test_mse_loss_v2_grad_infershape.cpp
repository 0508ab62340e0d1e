// The shape of y: the broadcast shape of the inputs, with unknown dimensions and ranks.
#include <gtest/gtest.h>

#include <vector>

#include "infer_shape_context_faker.h"
#include "register/op_impl_registry.h"

namespace {

using Dims = std::vector<int64_t>;

gert::StorageShape ShapeOf(const Dims& dims) {
  gert::StorageShape shape;
  for (const int64_t dim : dims) {
    shape.MutableOriginShape().AppendDim(dim);
    shape.MutableStorageShape().AppendDim(dim);
  }
  return shape;
}

// The inferred shape; {-99} if inference fails.
Dims Infer(const Dims& predict, const Dims& label, const Dims& dout) {
  gert::StorageShape inputs[] = {ShapeOf(predict), ShapeOf(label), ShapeOf(dout)};
  gert::StorageShape y;
  auto holder = gert::InferShapeContextFaker()
                    .SetOpType("MseLossV2Grad")
                    .NodeIoNum(3, 1)
                    .NodeInputTd(0, ge::DT_FLOAT, ge::FORMAT_ND, ge::FORMAT_ND)
                    .NodeInputTd(1, ge::DT_FLOAT, ge::FORMAT_ND, ge::FORMAT_ND)
                    .NodeInputTd(2, ge::DT_FLOAT, ge::FORMAT_ND, ge::FORMAT_ND)
                    .NodeOutputTd(0, ge::DT_FLOAT, ge::FORMAT_ND, ge::FORMAT_ND)
                    .InputShapes({&inputs[0], &inputs[1], &inputs[2]})
                    .OutputShapes({&y})
                    .Build();
  auto* context = holder.GetContext<gert::InferShapeContext>();
  const auto* implementation = gert::OpImplRegistry::GetInstance().GetOpImpl("MseLossV2Grad");
  if (context == nullptr || implementation == nullptr || implementation->infer_shape == nullptr ||
      implementation->infer_shape(context) != ge::GRAPH_SUCCESS) {
    return {-99};
  }
  Dims dims;
  const gert::Shape* shape = context->GetOutputShape(0);
  for (size_t i = 0; i < shape->GetDimNum(); ++i) {
    dims.push_back(shape->GetDim(i));
  }
  return dims;
}

TEST(MseLossV2GradInferShape, KnownShapes_Broadcast) {
  EXPECT_EQ(Infer({4, 8}, {4, 8}, {4, 8}), (Dims{4, 8}));
  EXPECT_EQ(Infer({4, 1}, {8}, {}), (Dims{4, 8}));
  EXPECT_EQ(Infer({}, {}, {}), Dims{});
}

TEST(MseLossV2GradInferShape, UnknownDimensionsAndRanks_StayUnknown) {
  EXPECT_EQ(Infer({-1, 8}, {-1, 8}, {}), (Dims{-1, 8}));
  EXPECT_EQ(Infer({-1, 8}, {4, 8}, {}), (Dims{4, 8}));
  EXPECT_EQ(Infer({-2}, {4, 8}, {}), Dims{-2});
}

TEST(MseLossV2GradInferShape, ShapesThatDoNotBroadcast_Fail) {
  EXPECT_EQ(Infer({4, 8}, {3, 8}, {}), Dims{-99});
}

}  // namespace
