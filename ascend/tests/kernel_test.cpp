// The kernel on the model, compared with the oracle: dtypes, reductions, sizes around every boundary,
// gradients, platforms.
#include <gtest/gtest.h>

#include <set>

#include "support.h"

namespace ascend_tests {
namespace {

int cases_run = 0;

::testing::AssertionResult Right(Case test) {
  ++cases_run;
  const std::string error = test.RunAndCheck();
  return error.empty() ? ::testing::AssertionSuccess()
                       : ::testing::AssertionFailure() << TextOf(test.request()) << ": " << error;
}

class CaseCount : public ::testing::Environment {
  void TearDown() override { std::printf("%d kernel cases\n", cases_run); }
};
const auto* const kCaseCount = ::testing::AddGlobalTestEnvironment(new CaseCount);

using Target = std::pair<Chip, DType>;

class KernelTest : public ::testing::TestWithParam<Target> {
 protected:
  static DType dtype() { return GetParam().second; }

  static Request RequestOn(const std::string& reduction, const Shape& predict, const Shape& label,
                           const Shape& dout) {
    Request request = RequestOf(dtype(), reduction, predict, label, dout);
    ascend_model::UseChip(GetParam().first, &request);
    return request;
  }

  // Sizes at, just below and just above multiples of the block, the unit of work, the cores and the tile. For
  // `cores` and `ub`, 0 means what the chip has.
  static std::set<int64_t> SizesOf(bool scalar_dout, int64_t limit, uint32_t cores = 0, uint64_t ub = 0) {
    const Shape huge = {int64_t{1} << 32};
    Request request = RequestOn("sum", huge, huge, scalar_dout ? Shape{} : huge);
    request.vector_cores = cores != 0 ? cores : request.vector_cores;
    request.ub_bytes = ub != 0 ? ub : request.ub_bytes;
    MseLossV2GradTilingData tiling{};
    uint32_t blocks = 0;
    EXPECT_EQ(ascend_model::Tile(ascend_model::MseLossV2Grad(), request, &tiling, &blocks), "");
    const int64_t block = 32 / WidthOf(dtype()), all = request.vector_cores;
    std::set<int64_t> sizes = {1, 2, 3};
    for (const int64_t edge :
         {block, 2 * block, tiling.unit, 2 * tiling.unit, 8 * tiling.unit, 16 * tiling.unit,
          all * 8 * tiling.unit, int64_t{tiling.tile}, 2 * int64_t{tiling.tile}, int64_t{tiling.step},
          all * tiling.tile, 2 * all * tiling.tile}) {
      for (int64_t size = edge - 1; size <= edge + 1; ++size) {
        if (size > 0 && size <= limit) {
          sizes.insert(size);
        }
      }
    }
    return sizes;
  }
};

TEST_P(KernelTest, EveryBoundarySize_MatchesTheOracle) {
  for (const bool scalar : {true, false}) {
    for (const int64_t n : SizesOf(scalar, 60000)) {
      for (const char* reduction : kReductions) {
        const Shape dout = !scalar ? Shape{n} : n % 2 != 0 ? Shape{} : Shape{1};
        ASSERT_TRUE(Right(Case(RequestOn(reduction, {n}, {n}, dout), cases::Values::kSpecial, 1000 + n)));
      }
    }
  }
}

TEST_P(KernelTest, EveryPlatform_MatchesTheOracle) {
  for (const uint32_t cores : {1U, 2U, 20U, 24U, 40U, 48U}) {
    for (const uint64_t ub : {196352U, 131072U, 32768U, 16384U, 9216U, 8704U}) {
      const std::set<int64_t> sizes = SizesOf(false, 30000, cores, ub);
      for (const int64_t n : sizes) {
        if (n % 3 != 0 && n < 20) {
          continue;
        }
        Request request = RequestOn("mean", {n}, {n}, n % 2 != 0 ? Shape{n} : Shape{});
        request.vector_cores = cores;
        request.ub_bytes = ub;
        ASSERT_TRUE(Right(Case(request, cases::Values::kWide, 77 + n)));
      }
    }
  }
}

TEST_P(KernelTest, AllCoresWithSeveralTiles_MatchesTheOracle) {
  for (const int64_t n : {1'000'003, 786'432}) {
    ASSERT_TRUE(Right(Case(RequestOn("mean", {n}, {n}, {n}), cases::Values::kUnit, 5)));
    ASSERT_TRUE(Right(Case(RequestOn("sum", {n}, {n}, {}), cases::Values::kUnit, 6)));
  }
}

TEST_P(KernelTest, EveryThreeWayBroadcast_MatchesTheOracle) {
  // Each of three inputs dense or broadcast along each of three dimensions: all 8^3 patterns.
  const Shape full = {3, 5, 37};
  for (int pattern = 0; pattern < 512; ++pattern) {
    Shape shapes[3];
    for (int input = 0; input < 3; ++input) {
      for (int dim = 0; dim < 3; ++dim) {
        shapes[input].push_back((pattern >> (3 * input + dim) & 1) != 0 ? full[dim] : 1);
      }
    }
    Request request = RequestOn(kReductions[pattern % 3], shapes[0], shapes[1], shapes[2]);
    if (pattern % 2 == 0) {
      request.vector_cores = 1;
    }
    ASSERT_TRUE(Right(Case(request, cases::Values::kSpecial, static_cast<uint64_t>(pattern))));
  }
}

TEST_P(KernelTest, RandomBroadcasts_MatchTheOracle) {
  cases::for_each_case(150, [](cases::Random& random) {
    const int64_t rank = random.range(0, 8);
    Shape all;
    int64_t room = 20000;
    for (int64_t i = 0; i < rank; ++i) {
      const int64_t extent =
          random.chance(20) ? 1 : random.range(1, std::min<int64_t>(room, random.chance(15) ? 4000 : 9));
      all.push_back(extent);
      room /= extent;
    }
    Shape shapes[3];
    for (Shape& shape : shapes) {
      shape.assign(all.begin() + random.range(0, random.chance(50) ? 0 : rank), all.end());
      for (int64_t& dim : shape) {
        dim = random.chance(30) ? 1 : dim;
      }
    }
    Request request = RequestOn(random.pick(kReductions), shapes[0], shapes[1], shapes[2]);
    request.vector_cores = static_cast<uint32_t>(random.pick(std::vector<int>{1, 3, 20, 40, 48}));
    request.ub_bytes = static_cast<uint64_t>(random.pick(std::vector<int>{196352, 65536, 20480, 10240}));
    ASSERT_TRUE(Right(Case(request, random.pick(cases::kValues), random.bits())));
  });
}

TEST_P(KernelTest, RowsAroundATile_MatchTheOracle) {
  for (const int64_t row : {127, 128, 129, 4095, 4096, 4097, 5759, 5760, 5761, 9472, 9473, 12000}) {
    for (const Shape& dout : {Shape{3, 1}, Shape{1, row}, Shape{}}) {
      Request request = RequestOn("mean", {3, row}, {1, row}, dout);
      request.vector_cores = 2;
      ASSERT_TRUE(Right(Case(request, cases::Values::kUnit, static_cast<uint64_t>(row))));
    }
  }
}

TEST_P(KernelTest, EmptyTensors_WriteNothing) {
  for (const Shape& shape : {Shape{0}, Shape{4, 0}, Shape{0, 7}, Shape{2, 0, 3}}) {
    for (const char* reduction : kReductions) {
      ASSERT_TRUE(Right(Case(RequestOn(reduction, shape, shape, shape), cases::Values::kUnit, 1)));
      ASSERT_TRUE(
          Right(Case(RequestOn(reduction, shape, Shape(shape.size(), 1), {}), cases::Values::kUnit, 1)));
    }
  }
}

TEST_P(KernelTest, InPlaceOnAnyInput_MatchesTheOracle) {
  for (int which = 0; which < 3; ++which) {
    Case test(RequestOn("mean", {70001}, {70001}, {70001}), cases::Values::kUnit, 3);
    const std::string apart = test.RunAndCheck();
    ASSERT_EQ(apart, "");
    Request& request = test.request();
    ascend_model::Tensor* input = which == 0 ? &request.predict : which == 1 ? &request.label : &request.dout;
    request.y = const_cast<void*>(input->data);
    ASSERT_EQ(test.RunAndCheck(), "");
  }
}

TEST_P(KernelTest, SaturatingMode_ReplacesInfinityAndNan) {
  if (dtype() == DType::kFloat32) {
    return;  // saturation exists only for the half types
  }
  const mseloss::DType type = OracleType(dtype());
  const double inf = std::numeric_limits<double>::infinity();
  const double in[] = {inf, -inf, std::nan(""), 1.0};
  for (const bool saturate : {false, true}) {
    Case test(RequestOn("sum", {4}, {1}, {}), cases::Values::kUnit, 3);
    Request& request = test.request();
    for (int i = 0; i < 4; ++i) {
      oracle::store(type, static_cast<uint8_t*>(const_cast<void*>(request.predict.data)) + 2 * i,
                    oracle::encode(type, in[i]));
    }
    oracle::store(type, const_cast<void*>(request.label.data), oracle::encode(type, 0));
    oracle::store(type, const_cast<void*>(request.dout.data), oracle::encode(type, 1));
    request.saturate = saturate;
    ASSERT_EQ(ascend_model::Run(request), "");
    double out[4];
    for (int i = 0; i < 4; ++i) {
      out[i] = oracle::decode(type, oracle::load(type, static_cast<uint8_t*>(request.y) + 2 * i));
    }
    const double largest = dtype() == DType::kFloat16 ? 65504 : 0x1.FEp127;
    EXPECT_EQ(out[0], saturate ? largest : inf);
    EXPECT_EQ(out[1], saturate ? -largest : -inf);
    EXPECT_TRUE(saturate ? out[2] == 0 : std::isnan(out[2]));
    EXPECT_EQ(out[3], 2);
  }
}

constexpr Target kTargets[] = {
    {Chip::kAtlasA2, DType::kFloat32},    {Chip::kAtlasA2, DType::kFloat16},
    {Chip::kAtlasA2, DType::kBfloat16},   {Chip::kAscend310P, DType::kFloat32},
    {Chip::kAscend310P, DType::kFloat16}, {Chip::kAscend950, DType::kFloat32},
    {Chip::kAscend950, DType::kFloat16},  {Chip::kAscend950, DType::kBfloat16},
};
std::string NameOf(const Target& target) {
  static const char* const chips[] = {"atlas_a2", "ascend310p", "ascend950"};
  static const char* const dtypes[] = {"float32", "float16", "bfloat16"};
  return std::string(chips[static_cast<int>(target.first)]) + "_" + dtypes[static_cast<int>(target.second)];
}

INSTANTIATE_TEST_SUITE_P(Targets, KernelTest, ::testing::ValuesIn(kTargets),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace ascend_tests
