// Tiling invariants on random shapes of up to 2^40 elements, and every error.
#include <gtest/gtest.h>

#include "laws.h"
#include "register/op_def_registry.h"

namespace ops {
OpDef& ModelDefinitionOfMseLossV2Grad();
}

namespace ascend_tests {
namespace {

Request RandomRequest(cases::Random& random) {
  const int64_t rank = random.range(0, 8);
  Shape all;
  int64_t room = int64_t{1} << random.range(0, 40);
  for (int64_t i = 0; i < rank; ++i) {
    int64_t extent = random.range(1, int64_t{1} << random.range(0, 40));
    extent = std::min(extent, room);
    all.push_back(random.chance(1) && i == 0 ? 0 : extent);
    room /= std::max<int64_t>(extent, 1);
  }
  Shape shapes[3];
  const bool alike = random.chance(30);
  for (Shape& shape : shapes) {
    shape.assign(all.begin() + (alike ? 0 : random.range(0, rank)), all.end());
    for (int64_t& dim : shape) {
      dim = !alike && random.chance(25) ? 1 : dim;
    }
  }
  if (alike && random.chance(50)) {
    shapes[2].clear();
  }
  const Chip chip = static_cast<Chip>(random.range(0, ascend_model::kChipCount - 1));
  const DType dtype =
      chip == Chip::kAscend310P ? static_cast<DType>(random.range(0, 1)) : random.pick(kDTypes);
  Request request = RequestOf(dtype, random.pick(kReductions), shapes[0], shapes[1], shapes[2]);
  ascend_model::UseChip(chip, &request);
  request.vector_cores = static_cast<uint32_t>(random.pick(std::vector<int>{1, 2, 20, 24, 40, 47, 48, 64}));
  if (random.chance(50)) {
    request.ub_bytes =
        static_cast<uint64_t>(random.pick(std::vector<int>{196352, 131072, 65536, 20480, 9000}));
  }
  return request;
}

TEST(TilingTest, RandomShapes_KeepTheLaws) {
  cases::for_each_case(100000, [](cases::Random& random) {
    const Request request = RandomRequest(random);
    ASSERT_EQ(Laws(request, random), "") << TextOf(request);
  });
}

TEST(TilingTest, MeanScale_IsCorrectlyRoundedFromTheCount) {
  cases::for_each_case(20000, [](cases::Random& random) {
    const int64_t n = random.range(1, int64_t{1} << random.range(0, 55));
    const Request request = RequestOf(DType::kFloat32, "mean", {n}, {n}, {});
    const float expected = static_cast<float>(oracle::two_over(static_cast<uint64_t>(n), 24));
    ASSERT_EQ(TilingOf(request).data.scale, expected) << n;
  });
  const Request request = RequestOf(DType::kFloat32, "mean", {846731599}, {846731599}, {});
  EXPECT_NE(TilingOf(request).data.scale, static_cast<float>(2.0 / 846731599));
}

TEST(TilingTest, StreamedData_IsKeptOutOfL2OnlyWhenItCannotFit) {
  const auto flags = [](int64_t n, const Shape& label) {
    const MseLossV2GradTilingData t = TilingOf(RequestOf(DType::kFloat32, "sum", {n, 128}, label, {})).data;
    return std::vector<int>{t.bypass_l2[0], t.bypass_l2[1], t.bypass_l2[2], t.y_bypass_l2};
  };
  EXPECT_EQ(flags(1024, {1024, 128}), (std::vector<int>{0, 0, 0, 0}));
  EXPECT_EQ(flags(1 << 20, {1 << 20, 128}), (std::vector<int>{1, 1, 0, 1}));
  EXPECT_EQ(flags(1 << 20, {1, 128}), (std::vector<int>{1, 0, 0, 1}));  // a broadcast row stays in L2
}

// A valid context, which each case below invalidates.
gert::TilingContext GoodContext(fe::PlatFormInfos* platform) {
  gert::TilingContext context;
  for (int i = 0; i < 3; ++i) {
    context.input_shapes.push_back(gert::StorageShape{gert::Shape({4, 8})});
    context.input_descs.push_back(gert::CompileTimeTensorDesc{ge::DT_FLOAT});
  }
  context.output_shape = gert::StorageShape{gert::Shape({4, 8})};
  context.output_desc = gert::CompileTimeTensorDesc{ge::DT_FLOAT};
  context.attrs = gert::RuntimeAttrs{{"mean"}};
  context.platform = platform;
  return context;
}

TEST(TilingTest, BadCalls_AreRefused) {
  const auto tiling = ops::ModelDefinitionOfMseLossV2Grad().ai_core.tiling;
  fe::PlatFormInfos platform;
  using Context = gert::TilingContext;
  const std::vector<std::pair<const char*, void (*)(Context&)>> spoilers = {
      {"null input shape", [](Context& c) { c.input_shapes[1].reset(); }},
      {"null input desc", [](Context& c) { c.input_descs[2].reset(); }},
      {"null output shape", [](Context& c) { c.output_shape.reset(); }},
      {"null output desc", [](Context& c) { c.output_desc.reset(); }},
      {"no attributes", [](Context& c) { c.attrs.reset(); }},
      {"no reduction", [](Context& c) { c.attrs->strings.clear(); }},
      {"unknown reduction", [](Context& c) { c.attrs->strings[0] = "avg"; }},
      {"empty reduction", [](Context& c) { c.attrs->strings[0] = ""; }},
      {"unequal dtypes", [](Context& c) { c.input_descs[1]->dtype = ge::DT_FLOAT16; }},
      {"unequal output dtype", [](Context& c) { c.output_desc->dtype = ge::DT_BF16; }},
      {"integer dtype",
       [](Context& c) {
         for (auto& desc : c.input_descs) {
           desc->dtype = ge::DT_INT32;
         }
         c.output_desc->dtype = ge::DT_INT32;
       }},
      {"shapes that do not broadcast",
       [](Context& c) {
         c.input_shapes[1]->storage = gert::Shape({3, 8});
       }},
      {"dout that does not broadcast",
       [](Context& c) {
         c.input_shapes[2]->storage = gert::Shape({4, 7});
       }},
      {"an output of another shape",
       [](Context& c) {
         c.output_shape->storage = gert::Shape({8, 4});
       }},
      {"an output of lower rank", [](Context& c) { c.output_shape->storage = gert::Shape({8}); }},
      {"nine dimensions", [](Context& c) { c.input_shapes[0]->storage = gert::Shape(Shape(9, 1)); }},
      {"a negative dimension",
       [](Context& c) {
         c.input_shapes[0]->storage = gert::Shape({-1, 8});
       }},
      {"a count past 64 bits",
       [](Context& c) {
         for (auto& shape : c.input_shapes) {
           shape->storage = gert::Shape({int64_t{1} << 40, int64_t{1} << 30});
         }
         c.output_shape->storage = c.input_shapes[0]->storage;
       }},
      {"no platform", [](Context& c) { c.platform = nullptr; }},
      {"no vector core", [](Context& c) { c.platform->aiv_cores = 0; }},
      {"a UB of nothing", [](Context& c) { c.platform->ub_bytes = 8192; }},
      {"no room for tiling data", [](Context& c) { c.tiling.resize(8); }},
  };
  for (const auto& [what, spoil] : spoilers) {
    platform = fe::PlatFormInfos();
    Context context = GoodContext(&platform);
    ASSERT_EQ(tiling(&context), ge::GRAPH_SUCCESS);
    spoil(context);
    EXPECT_EQ(tiling(&context), ge::GRAPH_FAILED) << what;
  }
  EXPECT_EQ(tiling(nullptr), ge::GRAPH_FAILED);
}

TEST(TilingTest, Bfloat16On310P_IsRefused) {
  Request request = RequestOf(DType::kBfloat16, "sum", {4}, {4}, {});
  ascend_model::UseChip(Chip::kAscend310P, &request);
  EXPECT_EQ(ascend_model::Run(request), "this chip has no bfloat16");
}

TEST(TilingTest, ARefusal_SaysWhy) {
  Request request = RequestOf(DType::kFloat32, "average", {4}, {4}, {});
  EXPECT_EQ(ascend_model::Run(request), "reduction must be none, mean or sum");
}

}  // namespace
}  // namespace ascend_tests
