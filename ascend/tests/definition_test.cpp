// The operator definition, and shape and dtype inference.
#include <gtest/gtest.h>

#include "register/op_def_registry.h"

namespace ops {
OpDef& ModelDefinitionOfMseLossV2Grad();
}

namespace {

using Dims = std::vector<int64_t>;

TEST(DefinitionTest, Operator_IsDeclaredAsDocumented) {
  const ops::OpDef& op = ops::ModelDefinitionOfMseLossV2Grad();
  EXPECT_EQ(op.type, "MseLossV2Grad");
  ASSERT_EQ(op.inputs.size(), 3u);
  ASSERT_EQ(op.outputs.size(), 1u);
  const char* const names[] = {"predict", "label", "dout"};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(op.inputs[i].name, names[i]);
    EXPECT_TRUE(op.inputs[i].contiguous);
  }
  EXPECT_EQ(op.outputs[0].name, "y");
  for (const ops::OpParamDef* param : {&op.inputs[0], &op.inputs[1], &op.inputs[2], &op.outputs[0]}) {
    EXPECT_EQ(param->param_type, ops::REQUIRED);
    EXPECT_EQ(param->dtypes, (std::vector<ge::DataType>{ge::DT_FLOAT16, ge::DT_FLOAT, ge::DT_BF16}));
    EXPECT_EQ(param->formats, std::vector<ge::Format>(3, ge::FORMAT_ND));
    EXPECT_EQ(param->unknown_formats, std::vector<ge::Format>(3, ge::FORMAT_ND));
  }
  ASSERT_EQ(op.attrs.size(), 1u);
  EXPECT_EQ(op.attrs[0].name, "reduction");
  EXPECT_EQ(op.attrs[0].attr_type, ops::OPTIONAL);
  EXPECT_EQ(op.attrs[0].default_value, "mean");
  std::vector<std::string> chips;
  for (const auto& [chip, config] : op.ai_core.configs) {
    chips.push_back(chip);
    EXPECT_EQ(config.inputs.empty(), chip != "ascend310p") << chip;
  }
  EXPECT_EQ(chips, (std::vector<std::string>{"ascend910b", "ascend910_93", "ascend950", "ascend310p"}));
}

TEST(DefinitionTest, Ascend310P_HasNoBfloat16) {
  const ops::OpDef& op = ops::ModelDefinitionOfMseLossV2Grad();
  const ops::OpAICoreConfig& config = op.ai_core.configs.back().second;
  ASSERT_EQ(config.inputs.size(), 3u);
  ASSERT_EQ(config.outputs.size(), 1u);
  EXPECT_EQ(config.outputs[0].name, op.outputs[0].name);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(config.inputs[i].name, op.inputs[i].name);
    EXPECT_TRUE(config.inputs[i].contiguous);
  }
  for (const ops::OpParamDef* param :
       {&config.inputs[0], &config.inputs[1], &config.inputs[2], &config.outputs[0]}) {
    EXPECT_EQ(param->param_type, ops::REQUIRED);
    EXPECT_EQ(param->dtypes, (std::vector<ge::DataType>{ge::DT_FLOAT16, ge::DT_FLOAT}));
    EXPECT_EQ(param->formats, std::vector<ge::Format>(2, ge::FORMAT_ND));
    EXPECT_EQ(param->unknown_formats, std::vector<ge::Format>(2, ge::FORMAT_ND));
  }
  EXPECT_TRUE(config.flags.at("dynamicShapeSupport"));
  EXPECT_TRUE(config.flags.at("dynamicRankSupport"));
}

// The inferred shape; {-99} if inference fails.
Dims Infer(const Dims& predict, const Dims& label, const Dims& dout) {
  gert::InferShapeContext context;
  for (const Dims& dims : {predict, label, dout}) {
    context.inputs.push_back(gert::Shape(dims));
  }
  const bool ok = ops::ModelDefinitionOfMseLossV2Grad().infer_shape(&context) == ge::GRAPH_SUCCESS;
  return ok ? context.output->dims() : Dims{-99};
}

TEST(DefinitionTest, InferredShape_IsTheBroadcastOfTheInputs) {
  EXPECT_EQ(Infer({}, {}, {}), Dims{});
  EXPECT_EQ(Infer({4, 8}, {4, 8}, {}), (Dims{4, 8}));
  EXPECT_EQ(Infer({4, 1}, {8}, {2, 1, 1}), (Dims{2, 4, 8}));
  EXPECT_EQ(Infer({0, 8}, {1, 8}, {}), (Dims{0, 8}));
  EXPECT_EQ(Infer({4, 8}, {3, 8}, {}), Dims{-99});
  EXPECT_EQ(Infer({4, 8}, {4, 8}, {7}), Dims{-99});
  EXPECT_EQ(Infer({0}, {3}, {}), Dims{-99});
}

TEST(DefinitionTest, UnknownDimensions_StayUnknownUnlessAnotherInputDecides) {
  EXPECT_EQ(Infer({-1, 8}, {4, 8}, {}), (Dims{4, 8}));
  EXPECT_EQ(Infer({4, 8}, {-1, 8}, {}), (Dims{4, 8}));
  EXPECT_EQ(Infer({-1, 8}, {1, 8}, {}), (Dims{-1, 8}));
  EXPECT_EQ(Infer({-1}, {-1}, {-1}), Dims{-1});
  EXPECT_EQ(Infer({-1, -1}, {5}, {3, 1}), (Dims{3, 5}));
}

TEST(DefinitionTest, UnknownRank_GivesUnknownRank) {
  EXPECT_EQ(Infer({-2}, {4, 8}, {}), Dims{-2});
  EXPECT_EQ(Infer({4, 8}, {4, 8}, {-2}), Dims{-2});
}

TEST(DefinitionTest, MissingShapes_FailInference) {
  gert::InferShapeContext context;
  EXPECT_EQ(ops::ModelDefinitionOfMseLossV2Grad().infer_shape(&context), ge::GRAPH_FAILED);
  context.inputs.assign(3, gert::Shape(Dims{1}));
  context.output.reset();
  EXPECT_EQ(ops::ModelDefinitionOfMseLossV2Grad().infer_shape(&context), ge::GRAPH_FAILED);
}

TEST(DefinitionTest, InferredDtype_IsPredicts) {
  gert::InferDataTypeContext context;
  context.inputs.assign(3, ge::DT_BF16);
  EXPECT_EQ(ops::ModelDefinitionOfMseLossV2Grad().infer_data_type(&context), ge::GRAPH_SUCCESS);
  EXPECT_EQ(context.output, ge::DT_BF16);
}

}  // namespace
