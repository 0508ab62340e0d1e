// Mutation test: the battery of checks must detect every seeded defect, and the shipped sources must pass it.
#include "mutants_test.h"

#include <gtest/gtest.h>

#include "laws.h"
#include "model_gert.h"
#include "sparse.h"

namespace ascend_tests {
namespace {

using ascend_model::Operator;

struct Finding {
  std::string message;  // empty: nothing found
  std::string by;
};

Finding OnCase(const Operator& op, Request request, uint32_t cores) {
  request.vector_cores = cores;
  Case test(request, cases::Values::kUnit, 11);
  const std::string error = test.RunAndCheck(op);
  return {error, test.outcome.rule != 0 ? "rule " + std::to_string(test.outcome.rule) : "bits"};
}

Finding OnSparse(const Operator& op, Request request, const Shape& elements) {
  request.vector_cores = 16384;
  SparseCase test(request);
  for (const int64_t element : elements) {
    test.Put(element);
  }
  const std::string error = test.RunAndCheck(op);
  return {error, test.outcome.rule != 0 ? "rule " + std::to_string(test.outcome.rule) : "bits"};
}

// A call that tiling must reject.
Finding OnRefusal(const Operator& op, const Request& request) {
  const Tiling tiling = TilingOf(request, op);
  return {tiling.refusal.empty() ? "a bad call was accepted: " + TextOf(request) : "", "refusal"};
}

// With many tiles per core, the slower of copying and computing must rarely wait for the other. With three
// times the chip's bus bandwidth, computing is the slower.
Finding OnOverlap(const Operator& op, bool fast_bus) {
  Request request = RequestOf(DType::kFloat16, "sum", {400000}, {400000}, {});
  request.vector_cores = 1;
  request.timing.bus_bytes *= fast_bus ? 3 : 1;
  Case test(request, cases::Values::kUnit, 11);
  const std::string error = test.RunAndCheck(op);
  const ascend_model::Counters& c = test.outcome.counters;
  const double idle = 1 - std::max(c.copy_cycles, c.vector_cycles) / c.cycles;
  std::ostringstream text;
  text << (fast_bus ? "the vector pipe" : "copying") << " is idle " << static_cast<int>(100 * idle)
       << " % of the time";
  return {!error.empty() ? error : idle > (fast_bus ? 0.15 : 0.05) ? text.str() : "", "counters"};
}

bool MismatchAccepted(const Operator& op) {
  fe::PlatFormInfos platform;
  gert::TilingContext context;
  for (int i = 0; i < 3; ++i) {
    context.input_shapes.push_back(gert::StorageShape{gert::Shape(Shape{4})});
    context.input_descs.push_back(gert::CompileTimeTensorDesc{i == 1 ? ge::DT_FLOAT16 : ge::DT_FLOAT});
  }
  context.output_shape = context.input_shapes[0];
  context.output_desc = context.input_descs[0];
  context.attrs = gert::RuntimeAttrs{{"sum"}};
  context.platform = &platform;
  return op.tiling(&context) == ge::GRAPH_SUCCESS;
}

Finding Battery(const Operator& op) {
  std::vector<Finding> findings;
  const auto run = [&](Finding finding) {
    findings.push_back(std::move(finding));
    return !findings.back().message.empty();
  };
  for (const DType dtype : kDTypes) {
    for (const int64_t n : {5, 1000, 4099, 20011, 100003}) {
      for (const uint32_t cores : {48U, 3U}) {
        const Shape dout = n % 2 != 0 && cores == 3 ? Shape{n} : Shape{};
        if (run(OnCase(op, RequestOf(dtype, "mean", {n}, {n}, dout), cores))) {
          return findings.back();
        }
      }
    }
    for (const uint32_t cores : {48U, 2U}) {
      if (run(OnCase(op, RequestOf(dtype, "mean", {37, 75}, {75}, {37, 1}), cores)) ||
          run(OnCase(op, RequestOf(dtype, "mean", {64, 1}, {64, 200}, {64, 200}), cores)) ||
          run(OnCase(op, RequestOf(dtype, "sum", {6, 5, 7}, {6, 5, 7}, {6, 1, 7}), cores))) {
        return findings.back();
      }
    }
  }
  const int64_t past = (int64_t{1} << 32) + 1000003;
  if (run(OnSparse(op, RequestOf(DType::kFloat16, "sum", {past}, {past}, {}), {0, past - 1})) ||
      run(OnSparse(op, RequestOf(DType::kFloat32, "mean", {846731599}, {846731599}, {}), {0})) ||
      run(OnOverlap(op, false)) || run(OnOverlap(op, true))) {
    return findings.back();
  }
  cases::Random random(1);
  for (const int64_t n : {int64_t{3}, int64_t{5000}, int64_t{65536}, int64_t{846731599}, past}) {
    for (const DType dtype : kDTypes) {
      if (run({Laws(RequestOf(dtype, "mean", {n}, {n}, {n}), random, op), "tiling law"})) {
        return findings.back();
      }
    }
  }
  for (int i = 0; i < 200; ++i) {
    const int64_t n = random.range(1, int64_t{1} << 36);
    if (run({Laws(RequestOf(DType::kFloat32, "mean", {n}, {n}, {}), random, op), "tiling law"})) {
      return findings.back();
    }
  }
  Request unequal = RequestOf(DType::kFloat32, "sum", {4}, {4}, {4});
  unequal.label.shape = {3};
  Request unequal_dout = RequestOf(DType::kFloat32, "sum", {4}, {4}, {4});
  unequal_dout.dout.shape = {3};
  if (run(OnRefusal(op, RequestOf(DType::kFloat32, "average", {4}, {4}, {}))) ||
      run(OnRefusal(op, unequal)) || run(OnRefusal(op, unequal_dout))) {
    return findings.back();
  }
  if (MismatchAccepted(op)) {
    return {"unequal dtypes were accepted", "refusal"};
  }
  return {};
}

// For defects of the code that only Ascend 310P uses: sizes and rows that end inside a block, in place too.
Finding Battery310P(const Operator& op) {
  std::vector<Request> requests;
  for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
    for (const int64_t n : {1, 5, 1000, 4099, 20011, 100003}) {
      requests.push_back(RequestOf(dtype, "mean", {n}, {n}, {}));
      requests.push_back(RequestOf(dtype, "sum", {n}, {n}, {n}));
    }
    requests.push_back(RequestOf(dtype, "mean", {1000003}, {1000003}, {}));  // several tiles on each core
    requests.push_back(RequestOf(dtype, "mean", {37, 75}, {75}, {37, 1}));
    requests.push_back(RequestOf(dtype, "mean", {300, 75}, {300, 75}, {75}));
    requests.push_back(RequestOf(dtype, "mean", {64, 1}, {64, 200}, {64, 200}));
  }
  for (Request& request : requests) {
    ascend_model::UseChip(Chip::kAscend310P, &request);
    for (const bool in_place : {false, true}) {
      Case test(request, cases::Values::kUnit, 11);
      if (in_place && request.predict.shape != request.y_shape) {
        continue;
      }
      if (in_place) {
        test.request().y = const_cast<void*>(test.request().predict.data);
      }
      const std::string error = test.RunAndCheck(op);
      if (!error.empty()) {
        return {error, test.outcome.rule != 0 ? "rule " + std::to_string(test.outcome.rule) : "bits"};
      }
    }
  }
  Request bfloat = RequestOf(DType::kBfloat16, "sum", {4}, {4}, {4});
  ascend_model::UseChip(Chip::kAscend310P, &bfloat);
  return OnRefusal(op, bfloat);
}

TEST(MutantsTest, TheShippedSources_PassTheBatteries) {
  EXPECT_EQ(Battery(ascend_model::MseLossV2Grad()).message, "");
  EXPECT_EQ(Battery310P(ascend_model::MseLossV2Grad()).message, "");
}

TEST(MutantsTest, EverySeededDefect_IsCaught) {
  int caught = 0;
  const std::vector<const Mutant*> mutants = AllMutants();
  std::printf("%-50s %-12s %s\n", "defect", "caught by", "message");
  for (const Mutant* mutant : mutants) {
    const Finding finding = mutant->chip == Chip::kAscend310P ? Battery310P(mutant->op) : Battery(mutant->op);
    caught += finding.message.empty() ? 0 : 1;
    std::printf("%-50s %-12s %s\n", mutant->name, finding.message.empty() ? "MISSED" : finding.by.c_str(),
                finding.message.c_str());
    EXPECT_NE(finding.message, "") << mutant->name;
  }
  std::printf("%d of %zu seeded defects caught\n", caught, mutants.size());
  EXPECT_GE(mutants.size(), 60u);
}

}  // namespace
}  // namespace ascend_tests
