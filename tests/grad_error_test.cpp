// Every error of grad(): its code, a message with the parameter, the expected and the given value, and no
// memory written.
#include "tests/support/cases.h"

namespace {

using namespace cases;
using mseloss::Code;

struct Call {
  float g[64], x[64], y[64];
  double wide[64];
  float out[64];
  Shape g_shape{2, 3}, x_shape{2, 3}, y_shape{2, 3}, out_shape{2, 3};
  Shape g_strides, x_strides, y_strides, out_strides;
  DType g_type{}, x_type{}, y_type{}, out_type{};
  const void *g_data = g, *x_data = x, *y_data = y;
  void* out_data = out;
  Reduction reduction = Reduction::kMean;

  Call() {
    for (int i = 0; i < 64; ++i) g[i] = x[i] = y[i] = out[i] = static_cast<float>(i), wide[i] = i;
  }
  Call(const Call&) = delete;

  Status run() {
    return mseloss::grad({g_data, g_type, g_shape, g_strides}, {x_data, x_type, x_shape, x_strides},
                         {y_data, y_type, y_shape, y_strides}, reduction,
                         {out_data, out_type, out_shape, out_strides});
  }
};

// `words`: substrings that the message must contain, separated by '|'.
template <class Corrupt>
void expect_refused(Code code, const std::string& words, Corrupt corrupt) {
  Call call;
  corrupt(call);
  const Status status = call.run();
  EXPECT_EQ(status.code(), code) << status.message();
  const std::string message = status.message();
  std::istringstream list(words);
  for (std::string word; std::getline(list, word, '|');)
    EXPECT_NE(message.find(word), std::string::npos) << "\"" << message << "\" lacks \"" << word << '"';
  for (int i = 0; i < 64; ++i) {
    const auto value = static_cast<float>(i);
    ASSERT_TRUE(call.out[i] == value && call.g[i] == value && call.x[i] == value && call.y[i] == value &&
                call.wide[i] == i)
        << "memory changed";
  }
}

TEST(GradErrors, NullPointerToElements_IsNamed) {
  expect_refused(Code::kNullPointer, "grad_output|expected|null", [](Call& c) { c.g_data = nullptr; });
  expect_refused(Code::kNullPointer, "input|expected|null", [](Call& c) { c.x_data = nullptr; });
  expect_refused(Code::kNullPointer, "target|expected|null", [](Call& c) { c.y_data = nullptr; });
  expect_refused(Code::kNullPointer, "grad_input|expected|null", [](Call& c) { c.out_data = nullptr; });
}

TEST(GradErrors, InputsOfDifferentDTypes_AreNamed) {
  expect_refused(Code::kDType, "grad_output|expected|float32|got float64",
                 [](Call& c) { c.g_type = DType::kFloat64, c.g_data = c.wide; });
  expect_refused(Code::kDType, "target|expected|float32|got float16",
                 [](Call& c) { c.y_type = DType::kFloat16; });
  expect_refused(Code::kDType, "expected|bfloat16|float32", [](Call& c) { c.x_type = DType::kBFloat16; });
}

TEST(GradErrors, DTypeOutsideTheEnum_IsNamed) {
  const auto unknown = static_cast<DType>(77);
  expect_refused(Code::kDType, "grad_output|expected|77", [&](Call& c) { c.g_type = unknown; });
  expect_refused(Code::kDType, "input|expected|77", [&](Call& c) { c.x_type = unknown; });
  expect_refused(Code::kDType, "target|expected|77", [&](Call& c) { c.y_type = unknown; });
  expect_refused(Code::kDType, "grad_input|expected|77", [&](Call& c) { c.out_type = unknown; });
}

TEST(GradErrors, ReductionOutsideTheEnum_IsNamed) {
  expect_refused(Code::kReduction, "reduction|expected|none|mean|sum|got 3",
                 [](Call& c) { c.reduction = static_cast<Reduction>(3); });
  expect_refused(Code::kReduction, "reduction|255",
                 [](Call& c) { c.reduction = static_cast<Reduction>(255); });
}

TEST(GradErrors, NineDimensions_AreNamed) {
  const Shape nine(9, 1);
  expect_refused(Code::kRank, "grad_output|8|got 9", [&](Call& c) { c.g_shape = nine; });
  expect_refused(Code::kRank, "input|8|got 9", [&](Call& c) { c.x_shape = nine; });
  expect_refused(Code::kRank, "target|8|got 9", [&](Call& c) { c.y_shape = nine; });
  expect_refused(Code::kRank, "grad_input|8|got 9", [&](Call& c) { c.out_shape = nine; });
}

TEST(GradErrors, ShapesThatDoNotBroadcast_AreNamed) {
  expect_refused(Code::kShape, "target|expected|(2, 3)|(2, 4)", [](Call& c) { c.y_shape = {2, 4}; });
  expect_refused(Code::kShape, "grad_output|expected|(2, 3)|(3, 3)", [](Call& c) { c.g_shape = {3, 3}; });
  expect_refused(Code::kShape, "expected|(2, 3)|(4, 3)", [](Call& c) { c.x_shape = {4, 3}; });
  expect_refused(Code::kShape, "expected|(0)", [](Call& c) { c.y_shape = {0}; });  // 0 against 3
}

TEST(GradErrors, OutputThatIsNotTheBroadcastShape_IsNamed) {
  for (const Shape& wrong : {Shape{3, 2}, Shape{6}, Shape{1, 2, 3}, Shape{}, Shape{2, 1}, Shape{2, 4}})
    expect_refused(Code::kShape, "grad_input|broadcast shape (2, 3)|got (",
                   [&](Call& c) { c.out_shape = wrong; });
  expect_refused(Code::kShape, "grad_input|(2, 3)", [](Call& c) {  // the output is never broadcast
    c.g_shape = c.x_shape = {1, 3}, c.out_shape = {1, 3};
  });
  expect_refused(Code::kShape, "grad_input|broadcast shape ()|got (1)",
                 [](Call& c) {  // not even one with a single element
                   c.g_shape = c.x_shape = c.y_shape = {}, c.out_shape = {1};
                 });
}

TEST(GradErrors, NegativeExtent_IsNamed) {
  expect_refused(Code::kShape, "input|expected|-3", [](Call& c) { c.x_shape = {2, -3}; });
  expect_refused(Code::kShape, "grad_input|expected|-3", [](Call& c) { c.out_shape = {2, -3}; });
}

TEST(GradErrors, StridesOfAnotherRank_AreNamed) {
  expect_refused(Code::kShape, "grad_output|expected 2|got 1", [](Call& c) { c.g_strides = {1}; });
  expect_refused(Code::kShape, "input|expected 2|got 3", [](Call& c) { c.x_strides = {1, 1, 1}; });
  expect_refused(Code::kShape, "target|expected 2|got 1", [](Call& c) { c.y_strides = {1}; });
  expect_refused(Code::kShape, "grad_input|expected 2|got 1", [](Call& c) { c.out_strides = {1}; });
}

TEST(GradErrors, CountsAndBytesBeyondTheAddressSpace_AreRefusedNotOverflowed) {
  const int64_t big = int64_t{1} << 62;
  expect_refused(Code::kShape, "input|expected", [&](Call& c) {
    c.x_shape = {big, 4}, c.x_strides = {0, 0}, c.out_shape = {big, 4}, c.y_shape = c.g_shape = {};
  });
  expect_refused(Code::kShape, "expected", [&](Call& c) {  // each shape fits, their broadcast shape does not
    c.x_shape = {big, 1}, c.x_strides = {0, 0}, c.y_shape = {4}, c.g_shape = {}, c.out_shape = {big, 4};
    c.out_strides = {0, 0};
  });
  expect_refused(Code::kShape, "target|expected", [&](Call& c) { c.y_strides = {big, 1}; });
  expect_refused(Code::kShape, "target|expected", [&](Call& c) { c.y_strides = {INT64_MIN, 1}; });
}

TEST(GradErrors, SeveralFaults_AreReportedInTheDocumentedOrder) {
  const auto corrupt = [](Call& c, int from) {
    if (from <= 0) c.y_type = DType::kFloat64;
    if (from <= 1) c.reduction = static_cast<Reduction>(9);
    if (from <= 2) c.g_shape = Shape(9, 1);
    if (from <= 3) c.x_shape = {5, 7};
    if (from <= 4) c.out_strides = {0, 0};
    if (from <= 5) c.y_data = nullptr;
    if (from <= 6) c.out_data = c.x + 1;
  };
  const Code order[] = {Code::kDType,   Code::kReduction,   Code::kRank,   Code::kShape,
                        Code::kOverlap, Code::kNullPointer, Code::kOverlap};
  for (int from = 0; from < 7; ++from)
    expect_refused(order[from], "expected", [&](Call& c) { corrupt(c, from); });
}

TEST(GradErrors, LongShapes_StillFitTheMessage) {
  expect_refused(Code::kShape, "input|expected|got shape (1234567890123, 1234567890123, ",
                 [](Call& c) { c.x_shape = Shape(8, 1234567890123), c.x_strides = Shape(8, 0); });
}

TEST(GradErrors, EmptyOperandsWithoutMemory_AreAllowed) {
  const Shape empty{3, 0};
  EXPECT_TRUE(mseloss::grad({nullptr, DType::kFloat32, empty}, {nullptr, DType::kFloat32, empty},
                            {nullptr, DType::kFloat32, empty}, Reduction::kMean,
                            {nullptr, DType::kFloat32, empty})
                  .ok());
}

}  // namespace
