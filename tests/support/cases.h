// Random operands of every dtype, layout and value class, with canary bytes, and the checks that tests share.
// MSELOSS_TEST_SEED replays a failure, MSELOSS_TEST_CASES scales the property tests (20000 is the full run).
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <initializer_list>
#include <iomanip>
#include <iterator>
#include <new>
#include <sstream>
#include <string>

#include "mseloss/mseloss.h"
#include "tests/support/oracle.h"

namespace cases {

using mseloss::ConstTensor;
using mseloss::DType;
using mseloss::Options;
using mseloss::Reduction;
using mseloss::Status;
using mseloss::Tensor;
using oracle::Shape;

inline constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64};
inline constexpr Reduction kReductions[] = {Reduction::kNone, Reduction::kMean, Reduction::kSum};

inline uint64_t number_from_environment(const char* name, uint64_t fallback) {
  const char* text = std::getenv(name);
  return text && *text ? std::strtoull(text, nullptr, 0) : fallback;
}

inline uint64_t case_scale() { return number_from_environment("MSELOSS_TEST_CASES", 20000); }
// A scaled-down run, for example under a sanitizer, also skips the largest sizes.
inline bool too_large(int64_t elements) { return case_scale() < 20000 && elements > 5000; }

class Random {  // splitmix64
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  int64_t range(int64_t low, int64_t high) {  // both bounds included
    return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(int percent) { return range(0, 99) < percent; }
  double unit() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  template <class C>
  auto pick(const C& choices) {
    return choices[bits() % std::size(choices)];
  }
  template <class T>
  T pick(std::initializer_list<T> choices) {
    return choices.begin()[bits() % choices.size()];
  }

 private:
  uint64_t state_;
};

// Runs body(random) `count` times (scaled by MSELOSS_TEST_CASES), each time with another seed. Stops at the
// first failure.
template <class F>
void for_each_case(int64_t count, F body) {
  const uint64_t first = number_from_environment("MSELOSS_TEST_SEED", 20240607);
  const uint64_t scaled = std::max<uint64_t>(1, static_cast<uint64_t>(count) * case_scale() / 20000);
  for (uint64_t seed = first; seed < first + scaled; ++seed) {
    SCOPED_TRACE(testing::Message() << "replay with MSELOSS_TEST_CASES=1 MSELOSS_TEST_SEED=" << seed);
    Random random(seed * 0x2545f4914f6cdd1d);
    body(random);
    if (testing::Test::HasFailure()) return;
  }
}

inline std::vector<std::string> targets() {
  // On another device the targets of the CPU make no difference.
  const char* device = std::getenv("MSELOSS_DEVICE");
  std::istringstream names(device == nullptr ? mseloss::supported_targets() : mseloss::target());
  return {std::istream_iterator<std::string>(names), {}};
}

// Runs body() once on each instruction-set target; fails if a target was not in use during its run.
template <class F>
void for_each_target(F body) {
  size_t ran = 0;
  for (const std::string& name : targets()) {
    SCOPED_TRACE("target " + name);
    ASSERT_TRUE(mseloss::set_target(name.c_str()).ok());
    ASSERT_EQ(name, mseloss::target());
    body();
    ASSERT_EQ(name, mseloss::target());
    ++ran;
  }
  ASSERT_TRUE(mseloss::set_target(nullptr).ok());
  EXPECT_GE(ran, 1u);
}

enum class Values { kIntegers, kUnit, kWide, kSpecial };
inline constexpr Values kValues[] = {Values::kIntegers, Values::kUnit, Values::kWide, Values::kSpecial};

// A random finite value, its exponent uniform over the whole range including subnormals.
inline uint64_t random_finite(Random& random, DType dtype) {
  for (;;) {
    const uint64_t bits = random.bits() >> (64 - 8 * oracle::bytes_of(dtype));
    if (std::isfinite(oracle::decode(dtype, bits))) return bits;
  }
}

inline std::vector<uint64_t> special_values(DType dtype) {
  const auto [bytes, precision, lowest, highest] = oracle::format_of(dtype);
  const double inf = std::numeric_limits<double>::infinity();
  const double max = std::ldexp(2 - std::ldexp(1, 1 - precision), highest);
  std::vector<uint64_t> all;
  for (double v : {0.0, std::ldexp(1, lowest), std::ldexp(3, lowest), std::ldexp(1, lowest + precision - 1),
                   std::ldexp(1, lowest + precision - 1) - std::ldexp(1, lowest), 1.0,
                   1 + std::ldexp(1, 1 - precision), max, max / 2, inf, std::nan("")}) {
    all.push_back(oracle::encode(dtype, v));
    all.push_back(oracle::encode(dtype, -v));
  }
  return all;
}

inline uint64_t random_value(Random& random, DType dtype, Values values) {
  static const auto specials = [] {
    std::vector<std::vector<uint64_t>> table;
    for (int t = 0; t < 4; ++t) table.push_back(special_values(static_cast<DType>(t)));
    return table;
  }();
  switch (values) {
    case Values::kIntegers:
      return oracle::encode(dtype, static_cast<double>(random.range(-8, 8)));
    case Values::kUnit:
      return oracle::encode(dtype, 2 * random.unit() - 1);
    case Values::kSpecial:
      if (random.chance(60)) return random.pick(specials[static_cast<size_t>(dtype)]);
      [[fallthrough]];
    default:
      return random_finite(random, dtype);
  }
}

// Allocates memory of exactly the requested size, aligned to a cache line.
template <class T>
struct CacheLineAllocator {
  using value_type = T;
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const CacheLineAllocator&) const { return true; }
};
using Bytes = std::vector<std::byte, CacheLineAllocator<std::byte>>;

enum class Layout { kDense, kTransposed, kSliced, kNegative, kPermuted, kExpanded, kAny };
inline constexpr Layout kLayouts[] = {Layout::kDense,    Layout::kTransposed, Layout::kSliced,
                                      Layout::kNegative, Layout::kPermuted,   Layout::kExpanded,
                                      Layout::kAny};

// For Operand's `misaligned`: aligns element (0, ..., 0) to a cache line.
inline constexpr int kCacheLineAligned = 64;

// A tensor that owns its memory. Every byte outside the elements is a canary. Without padding the memory ends
// at the last element, so AddressSanitizer detects reads past it.
class Operand {
 public:
  Operand(Random& random, DType dtype, Shape shape, Layout layout, bool output = false, int misaligned = -1)
      : dtype_(dtype), shape_(std::move(shape)), strides_(shape_.size()) {
    std::vector<size_t> order(shape_.size());  // innermost first
    for (size_t k = 0; k < order.size(); ++k) order[k] = order.size() - 1 - k;
    const bool any = layout == Layout::kAny;
    if (layout == Layout::kTransposed) std::reverse(order.begin(), order.end());
    if (layout == Layout::kPermuted || (any && random.chance(40)))
      for (size_t k = order.size(); k > 1; --k)
        std::swap(order[k - 1], order[static_cast<size_t>(random.range(0, static_cast<int64_t>(k) - 1))]);
    const bool gaps = layout == Layout::kSliced || (any && random.chance(40));
    const bool flips = layout == Layout::kNegative || (any && random.chance(30));
    const bool zeros = !output && (layout == Layout::kExpanded || (any && random.chance(30)));
    int64_t step = 1, low = 0, high = 0;
    for (size_t k : order) {
      const int64_t extent = shape_[k];
      if (gaps && random.chance(50)) step *= random.range(1, step == 1 ? 9 : 3);
      strides_[k] = flips && random.chance(60) ? -step : step;
      if (zeros && random.chance(50)) strides_[k] = 0;
      if (strides_[k] != 0 && extent > 1) step *= extent;
      if (gaps) step += random.range(0, 2);
      (strides_[k] < 0 ? low : high) += strides_[k] * std::max<int64_t>(extent - 1, 0);
      // The stride of a dimension of extent 1 is never used, so any value is valid.
      if (extent == 1 && layout != Layout::kDense && random.chance(30))
        strides_[k] = random.range(-1, 1) << random.range(0, 50);
    }
    const int64_t size = oracle::bytes_of(dtype_);
    const bool aligned = misaligned == kCacheLineAligned;
    const int64_t pad = aligned ? 64 : output || random.chance(30) ? random.range(1, 4) * size : 0;
    const int64_t shift = misaligned >= 0 ? misaligned : random.range(0, 3) == 0 ? random.range(0, 63) : 0;
    const bool empty = oracle::count_of(shape_) == 0;
    storage_.resize(static_cast<size_t>(shift + pad + (empty ? 0 : (high - low + 1) * size) + pad));
    for (std::byte& b : storage_) b = static_cast<std::byte>(random.bits());
    first_ = shift + pad - low * size;
  }

  void fill(Random& random, Values values) {
    for (int64_t i = 0, n = count(); i < n; ++i)
      oracle::store(dtype_, at(i), random_value(random, dtype_, values));
  }

  Tensor tensor() { return {storage_.data() + first_, dtype_, shape_, strides_}; }
  ConstTensor view() const { return {storage_.data() + first_, dtype_, shape_, strides_}; }
  std::byte* at(int64_t i) {
    return storage_.data() + first_ +
           oracle::offset_of(shape_, strides_, shape_, i) * oracle::bytes_of(dtype_);
  }
  uint64_t bits(int64_t i) { return oracle::load(dtype_, at(i)); }
  int64_t count() const { return oracle::count_of(shape_); }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  Bytes& storage() { return storage_; }

 private:
  DType dtype_;
  Shape shape_, strides_;
  Bytes storage_;
  int64_t first_ = 0;  // offset of element (0, ..., 0) in bytes
};

inline Shape random_shape(Random& random, int64_t most_elements) {
  Shape shape(static_cast<size_t>(random.range(0, 8)));
  int64_t left = most_elements;
  for (int64_t& extent : shape) {
    extent = random.chance(2) ? 0 : random.chance(25) ? 1 : random.range(1, std::min<int64_t>(left, 40));
    if (random.chance(10)) extent = left;
    left = std::max<int64_t>(1, left / std::max<int64_t>(extent, 1));
  }
  for (size_t k = shape.size(); k > 1; --k)
    std::swap(shape[k - 1], shape[static_cast<size_t>(random.range(0, static_cast<int64_t>(k) - 1))]);
  return shape;
}

// A shape that broadcasts to `all`: some leading dimensions dropped, some others of extent 1.
inline Shape narrowed(Random& random, Shape all) {
  if (random.chance(50)) return all;
  if (random.chance(20)) return Shape(static_cast<size_t>(random.range(0, 2)), 1);
  for (int64_t& extent : all)
    if (random.chance(35)) extent = 1;
  if (random.chance(40))
    all.erase(all.begin(), all.begin() + random.range(0, static_cast<int64_t>(all.size())));
  return all;
}

inline Options random_options(Random& random) {
  Options options;
  options.threads = static_cast<int>(random.range(0, 8));
  options.store = static_cast<Options::Store>(random.range(0, 2));
  return options;
}

inline void print_to(std::ostream& out, const char* name, const ConstTensor& t) {
  out << "\n  " << name << ": " << mseloss::name_of(t.dtype) << " shape (";
  for (int64_t n : t.shape) out << n << ' ';
  out << ") strides (";
  for (int64_t n : t.strides) out << n << ' ';
  out << ") address % 64 = " << reinterpret_cast<uintptr_t>(t.data) % 64;
}

inline std::string text_of(DType dtype, uint64_t bits) {
  std::ostringstream text;
  text << "0x" << std::hex << bits << " (" << std::setprecision(17) << oracle::decode(dtype, bits) << ')';
  return text.str();
}

// Checks that the elements of `out` equal `expected` and that no other byte of its memory differs from
// `before`.
inline testing::AssertionResult holds(Operand& out, const oracle::Bits& expected, Bytes before) {
  for (int64_t i = 0, n = static_cast<int64_t>(expected.size()); i < n; ++i) {
    const uint64_t wanted = expected[static_cast<size_t>(i)];
    if (!oracle::same(out.dtype(), out.bits(i), wanted))
      return testing::AssertionFailure()
             << "element " << i << " of " << n << " is " << text_of(out.dtype(), out.bits(i)) << ", not "
             << text_of(out.dtype(), wanted);
    std::memcpy(before.data() + (out.at(i) - out.storage().data()), out.at(i), oracle::bytes_of(out.dtype()));
  }
  if (before == out.storage()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "bytes outside the view changed";
}

// Calls grad() and compares the result with the oracle. `out` may be one of the inputs.
inline testing::AssertionResult grad_is_right(Operand& g, Operand& x, Operand& y, Reduction reduction,
                                              Operand& out, const Options& options = {}) {
  const auto expected = oracle::grad(g.view(), x.view(), y.view(), reduction, out.dtype());
  const auto before = out.storage();
  std::vector<Bytes> inputs;
  for (Operand* input : {&g, &x, &y}) inputs.push_back(input->storage());
  const Status status = mseloss::grad(g.view(), x.view(), y.view(), reduction, out.tensor(), options);
  testing::AssertionResult result =
      status.ok() ? holds(out, expected, before) : testing::AssertionFailure() << status.message();
  int i = 0;
  for (Operand* input : {&g, &x, &y}) {
    if (result && input != &out && input->storage() != inputs[static_cast<size_t>(i)])
      result = testing::AssertionFailure() << "input " << i << " changed";
    ++i;
  }
  if (!result) {
    std::ostringstream what;
    what << "\n  " << mseloss::name_of(reduction) << ", target " << mseloss::target() << ", threads "
         << options.threads << ", store " << static_cast<int>(options.store);
    print_to(what, "grad_output", g.view());
    print_to(what, "input", x.view());
    print_to(what, "target", y.view());
    print_to(what, "grad_input", out.view());
    result << what.str();
  }
  return result;
}

}  // namespace cases
