// 3,000 random calls, their results folded into one number that is the same on every target, processor and
// compiler. It changes only with the cases below.
#include "tests/support/parts.h"

namespace {

using namespace weighted;

constexpr int kCases = 3000;
constexpr uint64_t kDigest = 0x40af76eb0905f3eb;

class Digest {
 public:
  void add(uint64_t bits) { value_ = (value_ ^ bits) * 0x9e3779b97f4a7c15 + (value_ >> 29); }
  void add(Operand& out) {
    for (int64_t i = 0, n = out.count(); i < n; ++i) {
      const uint64_t bits = out.bits(i);
      add(std::isnan(oracle::decode(out.dtype(), bits)) ? ~uint64_t{0} : bits);
    }
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325;
};

// One statement for each random choice: the order in which a compiler evaluates arguments must not matter.
void add_case(Random& random, Digest* digest) {
  const DType x_dtype = random.pick(kDTypes);
  const DType y_dtype = random.chance(75) ? x_dtype : random.pick(kDTypes);
  const DType promoted = oracle::promoted_dtype(x_dtype, y_dtype);
  const Shape all = random_shape(random, 400);
  const Layout layouts[] = {random.pick(kLayouts), random.pick(kLayouts), random.pick(kLayouts)};
  const Shape y_shape = narrowed(random, all);
  Operand x(random, x_dtype, all, layouts[0]), y(random, y_dtype, y_shape, layouts[1]);
  const Values values = random.pick(kValues);
  x.fill(random, values);
  y.fill(random, values);
  const Shape shape = oracle::broadcast({x.shape(), y.shape()});
  const bool weights = random.chance(50);
  const Weights kind = random.pick(kWeights);
  const DType w_dtype = weight_dtype(random, promoted, kind);
  Operand w(random, w_dtype, shape, layouts[2]);
  fill_weights(random, w, kind);
  const Reduction reduction = random.pick(kReductions);
  Shape loss_shape = shape;
  if (reduction != Reduction::kNone) {
    for (int64_t& extent : loss_shape)
      if (random.chance(50)) extent = 1;
    if (random.chance(40)) loss_shape.clear();
  }
  const DType loss_dtype = random.pick(kDTypes);
  const DType grad_dtype = random.pick(kDTypes);
  Operand loss(random, loss_dtype, loss_shape, Layout::kDense, true);
  Operand grad(random, grad_dtype, shape, Layout::kDense, true), g(random, promoted, {}, Layout::kDense);
  g.fill(random, Values::kUnit);
  Options options;
  options.threads = static_cast<int>(random.range(0, 4));
  const Status status = weights ? mseloss::loss_and_grad(x.view(), y.view(), w.view(), reduction, g.view(),
                                                         loss.tensor(), grad.tensor(), options)
                                : mseloss::loss_and_grad(x.view(), y.view(), reduction, g.view(),
                                                         loss.tensor(), grad.tensor(), options);
  ASSERT_TRUE(status.ok()) << status.message();
  digest->add(loss);
  digest->add(grad);
}

TEST(Digest, RandomCases_GiveTheSameNumberEverywhere) {
  for_each_target([] {
    Digest digest;
    for (int i = 0; i < kCases; ++i) {
      Random random(static_cast<uint64_t>(i) * 0x2545f4914f6cdd1d + 7);
      add_case(random, &digest);
    }
    std::printf("[  DIGEST  ] %s: %d cases, 0x%016llx\n", mseloss::target(), kCases,
                static_cast<unsigned long long>(digest.value()));
    EXPECT_EQ(digest.value(), kDigest);
  });
}

}  // namespace
