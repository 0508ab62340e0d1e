// loss() without a reduction against the oracle, and every error of loss() and loss_and_grad().
#include "tests/support/cases.h"

namespace {

using namespace cases;
using mseloss::Code;

testing::AssertionResult squares_are_right(Operand& x, Operand& y, Operand& out, const Options& options) {
  const auto expected = oracle::loss(x.view(), y.view(), out.dtype());
  const auto before = out.storage();
  const Status status = mseloss::loss(x.view(), y.view(), Reduction::kNone, out.tensor(), options);
  auto result = status.ok() ? holds(out, expected, before) : testing::AssertionFailure() << status.message();
  if (!result) {
    std::ostringstream what;
    what << "\n  target " << mseloss::target() << ", threads " << options.threads;
    print_to(what, "input", x.view());
    print_to(what, "target", y.view());
    print_to(what, "out", out.view());
    result << what.str();
  }
  return result;
}

TEST(LossElementwiseProperty, RandomOperandsOfAnyDTypes_EqualTheOracle) {
  const auto names = targets();
  for_each_case(8000, [&](Random& random) {
    ASSERT_TRUE(mseloss::set_target(random.pick(names).c_str()).ok());
    const Shape all = random_shape(random, random.chance(3) ? 20000 : 400);
    const DType dtype = random.pick(kDTypes);
    const bool writable = random.chance(20);
    Operand x(random, dtype, narrowed(random, all), random.pick(kLayouts), writable);
    Operand y(random, random.chance(70) ? dtype : random.pick(kDTypes), narrowed(random, all),
              random.pick(kLayouts), writable);
    x.fill(random, random.pick(kValues));
    y.fill(random, random.pick(kValues));
    const Shape shape = oracle::broadcast({x.shape(), y.shape()});
    Operand fresh(random, random.chance(50) ? dtype : random.pick(kDTypes), shape, random.pick(kLayouts),
                  true);
    Operand* out = &fresh;
    if (writable && x.shape() == shape) out = &x;
    if (writable && y.shape() == shape && random.chance(50)) out = &y;
    ASSERT_TRUE(squares_are_right(x, y, *out, random_options(random)));
  });
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
}

TEST(LossElementwise, EveryTargetLayoutAndSize_EqualsTheOracle) {
  Random random(41);
  for_each_target([&] {
    for (DType dtype : kDTypes)
      for (const Shape& shape : {Shape{}, Shape{1}, Shape{63}, Shape{1000}, Shape{33, 70}, Shape{40009}})
        for (Layout layout : kLayouts) {
          Operand x(random, dtype, shape, layout), y(random, dtype, shape, random.pick(kLayouts));
          Operand out(random, dtype, shape, layout, true);
          x.fill(random, random.pick(kValues));
          y.fill(random, random.pick(kValues));
          ASSERT_TRUE(squares_are_right(x, y, out, random_options(random)));
        }
  });
}

float memory[256];
const Shape kShape{2, 3};

ConstTensor at(int first, const Shape& shape = kShape) { return {memory + first, DType::kFloat32, shape}; }
Tensor out_at(int first, const Shape& shape = kShape, const Shape& strides = {}) {
  return {memory + first, DType::kFloat32, shape, strides};
}

// `words`: substrings that the message must contain, separated by '|'. The call must not write.
template <class Call>
void expect_refused(Code code, const std::string& words, Call call) {
  for (int i = 0; i < 256; ++i) memory[i] = static_cast<float>(i);
  const Status status = call();
  EXPECT_EQ(status.code(), code) << status.message();
  std::istringstream list(words + "|expected");
  for (std::string word; std::getline(list, word, '|');)
    EXPECT_NE(std::string(status.message()).find(word), std::string::npos)
        << '"' << status.message() << "\" lacks \"" << word << '"';
  for (int i = 0; i < 256; ++i) ASSERT_EQ(memory[i], static_cast<float>(i));
}

TEST(LossErrors, EveryFault_HasItsCodeAndNamesItsParameter) {
  const Shape none, wrong{3, 2}, nine(9, 1);
  const auto refused = [&](Code code, const char* words, const ConstTensor& x, const ConstTensor& y,
                           Reduction reduction, const Tensor& out) {
    expect_refused(code, words, [&] { return mseloss::loss(x, y, reduction, out); });
  };
  const Reduction mean = Reduction::kMean, sum = Reduction::kSum, each = Reduction::kNone;
  const auto bad = static_cast<DType>(50);
  refused(Code::kDType, "input|50", {memory, bad, kShape}, at(10), mean, out_at(100, none));
  refused(Code::kDType, "target|50", at(0), {memory, bad, kShape}, mean, out_at(100, none));
  refused(Code::kDType, "out|50", at(0), at(10), mean, {memory + 100, bad});
  refused(Code::kReduction, "reduction|17", at(0), at(10), static_cast<Reduction>(17), out_at(100, none));
  refused(Code::kRank, "input|8|9", at(0, nine), at(10), mean, out_at(100, none));
  refused(Code::kRank, "target|8|9", at(0), at(10, nine), mean, out_at(100, none));
  refused(Code::kShape, "target|(2, 3)|(3, 2)", at(0), at(10, wrong), mean, out_at(100, none));
  refused(Code::kShape, "out|0-dimensional", at(0), at(10), mean, out_at(100, {1}));
  refused(Code::kShape, "out|0-dimensional", at(0), at(10), sum, out_at(100, wrong));
  refused(Code::kShape, "out|(2, 3)|(3, 2)", at(0), at(10), each, out_at(100, wrong));
  refused(Code::kShape, "out|(2, 3)", at(0), at(10), each, out_at(100, none));
  refused(Code::kNullPointer, "input|null", {nullptr, DType::kFloat32, kShape}, at(10), sum,
          out_at(100, none));
  refused(Code::kNullPointer, "target|null", at(0), {nullptr, DType::kFloat32, kShape}, each, out_at(100));
  refused(Code::kNullPointer, "out|null", at(0), at(10), mean, {nullptr, DType::kFloat32});
  refused(Code::kNullPointer, "out|null", at(0), at(10), each, {nullptr, DType::kFloat32, kShape});
  refused(Code::kOverlap, "out|input", at(0), at(10), mean, out_at(5, none));
  refused(Code::kOverlap, "out|target", at(0), at(10), sum, out_at(10, none));
  refused(Code::kOverlap, "out|input", at(0), at(10), each, out_at(1));
  refused(Code::kOverlap, "out", at(0), at(10), each, out_at(100, kShape, {1, 1}));
}

TEST(LossErrors, ScalarOutputInAGapOfAnInput_IsAllowed) {
  for (int i = 0; i < 256; ++i) memory[i] = 3;
  const int64_t shape[] = {4}, strides[] = {2};
  ASSERT_TRUE(
      mseloss::loss({memory, shape, strides}, {memory + 100, shape}, Reduction::kSum, {memory + 3}).ok());
  EXPECT_EQ(memory[3], 0);
}

TEST(LossAndGradErrors, EveryFault_HasItsCodeAndNamesItsParameter) {
  const Shape none, wrong{3, 2}, two{2}, nine(9, 1);
  const auto refused = [&](Code code, const char* words, const ConstTensor& x, const ConstTensor& y,
                           Reduction reduction, const ConstTensor& g, const Tensor& loss, const Tensor& out) {
    expect_refused(code, words, [&] { return mseloss::loss_and_grad(x, y, reduction, g, loss, out); });
  };
  const Reduction mean = Reduction::kMean, sum = Reduction::kSum, each = Reduction::kNone;
  const auto bad = static_cast<DType>(50);
  const ConstTensor x = at(0), y = at(10), g = at(20, none);
  const Tensor loss = out_at(30, none), out = out_at(40);
  refused(Code::kDType, "input|50", {memory, bad, kShape}, y, mean, g, loss, out);
  refused(Code::kDType, "target|50", x, {memory, bad, kShape}, mean, g, loss, out);
  refused(Code::kDType, "grad_output|50", x, y, mean, {memory, bad}, loss, out);
  refused(Code::kDType, "loss|50", x, y, mean, g, {memory + 30, bad}, out);
  refused(Code::kDType, "grad_input|50", x, y, mean, g, loss, {memory + 40, bad, kShape});
  refused(Code::kReduction, "reduction|17", x, y, static_cast<Reduction>(17), g, loss, out);
  refused(Code::kRank, "grad_output|8|9", x, y, sum, at(20, nine), loss, out);
  refused(Code::kShape, "grad_output|one element", x, y, mean, at(20, two), loss, out);
  refused(Code::kShape, "grad_output|one element", x, y, sum, at(20), loss, out);
  refused(Code::kShape, "target|(2, 3)", x, at(10, wrong), mean, g, loss, out);
  refused(Code::kShape, "loss|0-dimensional", x, y, mean, g, out_at(30, {1}), out);
  refused(Code::kShape, "grad_input|(2, 3)|(3, 2)", x, y, mean, g, loss, out_at(40, wrong));
  refused(Code::kShape, "loss|(2, 3)", x, y, each, g, loss, out);
  refused(Code::kNullPointer, "input|null", {nullptr, DType::kFloat32, kShape}, y, mean, g, loss, out);
  refused(Code::kNullPointer, "grad_output|null", x, y, mean, {nullptr, DType::kFloat32}, loss, out);
  refused(Code::kNullPointer, "loss|null", x, y, mean, g, {nullptr, DType::kFloat32}, out);
  refused(Code::kNullPointer, "grad_input|null", x, y, mean, g, loss, {nullptr, DType::kFloat32, kShape});
  refused(Code::kOverlap, "loss|input", x, y, mean, g, out_at(2, none), out);
  refused(Code::kOverlap, "loss|target", x, y, mean, g, out_at(12, none), out);
  refused(Code::kOverlap, "loss|grad_output", x, y, mean, g, out_at(20, none), out);
  refused(Code::kOverlap, "loss|grad_input", x, y, mean, g, out_at(41, none), out);
  refused(Code::kOverlap, "grad_input|input", x, y, mean, g, loss, out_at(1));
  refused(Code::kOverlap, "grad_input|grad_output", x, y, mean, at(42, none), loss, out);
  refused(Code::kOverlap, "grad_input", x, y, mean, g, loss, out_at(40, kShape, {0, 1}));
  refused(Code::kOverlap, "loss|input", x, y, each, g, out_at(0), out);
  refused(Code::kOverlap, "grad_input|input", x, y, each, g, out_at(30), out_at(0));  // not even in place
  refused(Code::kOverlap, "loss", x, y, each, g, out_at(40), out);
}

}  // namespace
