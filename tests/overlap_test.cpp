// Which operands may share memory. The library decides this exactly, so the tests compare it with the set of
// bytes of every element.
#include <set>

#include "tests/support/cases.h"

namespace {

using namespace cases;
using mseloss::Code;

struct Window {  // a view of the test's float memory
  int64_t first;
  Shape shape, strides;
  DType dtype = DType::kFloat32;
};

class Overlap : public testing::Test {
 protected:
  static constexpr int64_t kFloats = 4096;
  Overlap() {
    for (int64_t i = 0; i < kFloats; ++i) memory_[i] = static_cast<float>(i % 37) - 11;
  }

  Status grad(const Window& g, const Window& x, const Window& y, const Window& out) {
    return mseloss::grad(view(g), view(x), view(y), Reduction::kSum, view(out));
  }
  Tensor view(const Window& w) { return {memory_ + w.first, w.dtype, w.shape, w.strides}; }

  void expect_refused(const Window& g, const Window& x, const Window& y, const Window& out,
                      const char* named = "grad_input") {
    const std::vector<float> before(memory_, memory_ + kFloats);
    const Status status = grad(g, x, y, out);
    EXPECT_EQ(status.code(), Code::kOverlap) << status.message();
    for (const char* word : {named, "expected", "got"})
      EXPECT_NE(std::string(status.message()).find(word), std::string::npos) << status.message();
    EXPECT_TRUE(std::equal(before.begin(), before.end(), memory_)) << "memory changed";
  }

  // The call is allowed and correct although the operands are interleaved.
  void expect_right(const Window& g, const Window& x, const Window& y, const Window& out) {
    const auto expected = oracle::grad(view(g), view(x), view(y), Reduction::kSum, out.dtype);
    std::vector<float> before(memory_, memory_ + kFloats);
    const Status status = grad(g, x, y, out);
    ASSERT_TRUE(status.ok()) << status.message();
    for (size_t i = 0; i < expected.size(); ++i) {
      const int64_t at = oracle::offset_of(out.shape, out.strides, out.shape, static_cast<int64_t>(i));
      char* address = reinterpret_cast<char*>(memory_ + out.first) + at * oracle::bytes_of(out.dtype);
      ASSERT_EQ(oracle::load(out.dtype, address), expected[i]) << i;
      std::memcpy(reinterpret_cast<char*>(before.data()) + (address - reinterpret_cast<char*>(memory_)),
                  address, oracle::bytes_of(out.dtype));
    }
    EXPECT_TRUE(std::equal(before.begin(), before.end(), memory_)) << "memory outside the output changed";
  }

  float memory_[kFloats];
  const Window scalar_{4000, {}, {}}, other_{3000, {4, 6}, {}};
};

TEST_F(Overlap, OutputShiftedAgainstAnInput_IsRefused) {
  for (int64_t shift : {-23, -1, 1, 5, 23})
    for (int which = 0; which < 3; ++which) {
      const Window out{1000 + shift, {4, 6}, {}}, input{1000, {4, 6}, {}};
      expect_refused(which == 0 ? input : scalar_, which == 1 ? input : other_, which == 2 ? input : other_,
                     out,
                     which == 0   ? "grad_output"
                     : which == 1 ? "input"
                                  : "target");
    }
}

TEST_F(Overlap, OutputBesideAnInput_IsAllowed) {
  expect_right(scalar_, {1000, {4, 6}, {}}, other_, {1024, {4, 6}, {}});
  expect_right(scalar_, {1000, {4, 6}, {}}, other_, {976, {4, 6}, {}});
}

TEST_F(Overlap, SameMemoryWithOtherStrides_IsRefused) {
  expect_refused(scalar_, {1000, {5, 5}, {1, 5}}, {3000, {5, 5}, {}}, {1000, {5, 5}, {5, 1}});
  expect_refused(scalar_, {1023, {24}, {-1}}, {3000, {24}, {}}, {1000, {24}, {}});
}

TEST_F(Overlap, OutputOnAnInputThatBroadcasts_IsRefused) {
  expect_refused(scalar_, {1000, {1, 6}, {}}, other_, {1000, {4, 6}, {}});
  expect_refused({1003, {}, {}}, other_, other_, {1000, {4, 6}, {}}, "grad_output");
}

TEST_F(Overlap, OutputOfAnotherWidthOnAnInput_IsRefused) {
  expect_refused(scalar_, {1000, {4, 6}, {}}, other_, {1000, {4, 6}, {}, DType::kFloat16});
  expect_refused(scalar_, {1000, {24}, {}}, {3000, {24}, {}}, {1000, {24}, {}, DType::kFloat64});
}

TEST_F(Overlap, OutputExactlyOnTwoEqualInputs_IsRightOrRefusedButNeverWrong) {
  const Window both{1000, {4, 6}, {}};
  const auto expected = oracle::grad(view(other_), view(both), view(both), Reduction::kSum, DType::kFloat32);
  if (grad(other_, both, both, both).ok()) {
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_EQ(oracle::load(DType::kFloat32, memory_ + 1000 + i), expected[i]);
  }
}

TEST_F(Overlap, InputsThatShareMemory_AreAllowed) {
  expect_right({1001, {4, 6}, {}}, {1000, {4, 6}, {}}, {1005, {4, 6}, {1, 4}}, {2000, {4, 6}, {}});
}

TEST_F(Overlap, InterleavedOperandsThatNeverMeet_AreAllowed) {
  // An array of structures {g, x, y, out}.
  expect_right({0, {100}, {4}}, {1, {100}, {4}}, {2, {100}, {4}}, {3, {100}, {4}});
  // Columns of one matrix; the output in reverse order.
  expect_right({0, {50}, {10}}, {3, {50}, {10}}, {7, {50}, {10}}, {498, {50}, {-10}});
  // Even rows, and odd rows transposed.
  expect_right(scalar_, {0, {6, 6}, {16, 1}}, {2000, {6, 6}, {}}, {8, {6, 6}, {1, 16}});
  // Two quarters of a checkerboard.
  expect_right(scalar_, {0, {8, 8}, {32, 2}}, {2000, {8, 8}, {}}, {17, {8, 8}, {32, 2}});
}

TEST_F(Overlap, InterleavedOperandsThatMeetOnce_AreRefused) {
  // Strides 7 and 11 share only offset 77.
  expect_refused(scalar_, {1000, {12}, {7}}, {3000, {12}, {}}, {1000 + 77 - 11 * 7, {12}, {11}});
  expect_right(scalar_, {1000, {11}, {7}}, {3000, {11}, {}}, {1001, {11}, {7}});
}

TEST_F(Overlap, OutputThatOverlapsItself_IsRefused) {
  const Window input{2000, {4, 6}, {}};
  for (const Shape& strides : {Shape{0, 1}, Shape{6, 0}, Shape{5, 1}, Shape{1, 1}, Shape{1, -1}, Shape{2, 3},
                               Shape{-1, 2}, Shape{3, 2}})
    expect_refused(scalar_, input, other_, {1000, {4, 6}, strides});
}

TEST_F(Overlap, OutputWhoseTrickyStridesNeverMeet_IsRight) {
  expect_right(scalar_, {2000, {3, 2}, {}}, {3000, {3, 2}, {}}, {1000, {3, 2}, {2, 3}});
  expect_right(scalar_, {2000, {2, 3}, {}}, {3000, {2, 3}, {}}, {1000, {2, 3}, {3, 2}});
  expect_right(scalar_, {2000, {5, 3}, {}}, {3000, {5, 3}, {}}, {1000, {5, 3}, {-3, 5}});
  expect_right(scalar_, {2000, {7, 4}, {}}, {3000, {7, 4}, {}}, {1000, {7, 4}, {4, 7}});
  // The stride of a dimension of extent 1 is unused.
  expect_right(scalar_, {2000, {1, 6}, {}}, {3000, {1, 6}, {}}, {1000, {1, 6}, {0, 1}});
}

TEST_F(Overlap, EmptyOutputs_OverlapNothingWhateverTheirStrides) {
  for (const Shape& strides : {Shape{}, Shape{0, 0}, Shape{0, 1}, Shape{-7, 3}})
    EXPECT_TRUE(grad(scalar_, {1000, {3, 0}, {}}, {1000, {3, 0}, {}}, {1000, {3, 0}, strides}).ok());
  EXPECT_TRUE(grad({1000, {3, 1}, {}}, {1000, {3, 0}, {}}, {1000, {}, {}}, {1000, {3, 0}, {0, 0}}).ok());
}

TEST_F(Overlap, LossOfEmptySlicesThatOverlapsItself_IsRefused) {
  const Shape empty{3, 4, 0}, slices{3, 4, 1}, strides{1, 1, 1};
  const Status status = mseloss::loss(view({2000, empty, {}}), view({2000, empty, {}}), Reduction::kSum,
                                      view({1000, slices, strides}));
  EXPECT_EQ(status.code(), Code::kOverlap) << status.message();
  EXPECT_TRUE(mseloss::loss(view({2000, empty, {}}), view({2000, empty, {}}), Reduction::kSum,
                            view({1000, slices, {1, 3, 0}}))
                  .ok());
  const Shape none{0, 4, 3}, no_slices{0, 4, 1};  // a loss without elements overlaps nothing
  EXPECT_TRUE(mseloss::loss(view({2000, none, {}}), view({2000, none, {}}), Reduction::kSum,
                            view({1000, no_slices, {0, 0, 0}}))
                  .ok());
}

TEST_F(Overlap, ErrorOfAShape_IsReportedBeforeAnOverlap) {
  const Shape full{2, 3}, wrong{2, 5}, still{0, 0};
  const Status status =
      mseloss::loss_and_grad(view({2000, full, {}}), view({2100, full, {}}), Reduction::kSum,
                             view({2200, wrong, {}}), view({1000, full, still}), view({1500, full, {}}));
  EXPECT_EQ(status.code(), Code::kShape) << status.message();
}

TEST_F(Overlap, GiantOutputsThatOverlapThemselves_AreRefusedWithoutOverflow) {
  const int64_t big = int64_t{1} << 62;
  expect_refused(scalar_, {2000, {big}, {0}}, scalar_, {1000, {big}, {0}});
  expect_refused(scalar_, {2000, {big + 5}, {0}}, scalar_, {1000, {big + 5}, {0}, DType::kFloat16});
}

std::multiset<int64_t> bytes_of_view(int64_t first, const Shape& shape, const Shape& strides, int64_t width) {
  std::multiset<int64_t> bytes;
  for (int64_t i = 0, n = oracle::count_of(shape); i < n; ++i)
    for (int64_t b = 0; b < width; ++b)
      bytes.insert(first + oracle::offset_of(shape, strides, shape, i) * width + b);
  return bytes;
}

// Small views with random strides: refused if and only if an output element shares a byte with another
// element.
TEST_F(Overlap, RandomViews_AreRefusedExactlyIfBytesAreShared) {
  int refused = 0, allowed = 0;
  for_each_case(12000, [&](Random& random) {
    Shape shape(static_cast<size_t>(random.range(1, 3)));
    for (int64_t& extent : shape) extent = random.range(1, 5);
    const auto strides = [&] {
      Shape s(shape.size());
      for (int64_t& stride : s) stride = random.range(-9, 9) * (random.chance(30) ? 4 : 1);
      return s;
    };
    const Window input{2000, shape, strides()}, out{random.range(1950, 2050), shape, strides()};
    const auto read = bytes_of_view(4 * input.first, shape, input.strides, 4);
    const auto written = bytes_of_view(4 * out.first, shape, out.strides, 4);
    bool shares = std::set(written.begin(), written.end()).size() != written.size();
    for (int64_t byte : written) shares = shares || read.count(byte) != 0;
    bool exact = input.first == out.first;
    for (size_t k = 0; k < shape.size(); ++k)
      exact = exact && (shape[k] == 1 || input.strides[k] == out.strides[k]);
    exact = exact && std::set(written.begin(), written.end()).size() == written.size();
    const Status status = grad(scalar_, input, {1, {}, {}}, out);
    ASSERT_EQ(status.code(), shares && !exact ? Code::kOverlap : Code::kOk) << status.message();
    ++(shares && !exact ? refused : allowed);
  });
  EXPECT_GT(refused, 0);
  EXPECT_GT(allowed, 0);
}

}  // namespace
