// The CUDA kernels on the model of the device, against the oracle.
#include <gtest/gtest.h>

#include <cstdio>

#include "cuda/shape.h"
#include "cuda/staging.h"
#include "mseloss/mseloss.h"
#include "tests/cuda/battery.h"

namespace {

using mseloss::cuda::model::kernels;

using mseloss::Buffers;
using mseloss::Code;
using mseloss::Plan;
using mseloss::cuda::model::driver;
using namespace cases;

TEST(CudaModel, EveryKernelInManySchedules_EqualsTheOracle) { EXPECT_EQ(battery::all(kernels(), true), ""); }

TEST(CudaModel, LaunchesOfACall_AreThoseOfTheDesign) {
  Random random(3);
  battery::Runner run(kernels());
  auto& machine = mseloss::cuda::model::Machine::current();
  const auto launches = [&](auto call) {
    const uint64_t before = machine.launches();
    EXPECT_EQ(call(), "");
    return machine.launches() - before;
  };
  battery::Shapes make;
  Operand g = make.dense(DType::kFloat32, {}, Values::kUnit),
          x = make.dense(DType::kFloat32, {5000}, Values::kUnit);
  Operand y = make.dense(DType::kFloat32, {5000}, Values::kUnit),
          w = make.dense(DType::kFloat32, {5000}, Values::kUnit);
  Operand out = make.dense(DType::kFloat32, {5000}, Values::kUnit, true);
  Operand loss = make.dense(DType::kFloat32, {}, Values::kUnit, true);
  EXPECT_EQ(launches([&] { return run.grad(g, x, y, Reduction::kMean, out); }), 1u);
  EXPECT_EQ(launches([&] { return run.loss(x, y, nullptr, Reduction::kMean, loss); }), 2u);
  EXPECT_EQ(launches([&] { return run.both(x, y, nullptr, g, Reduction::kMean, loss, out); }), 2u);
  EXPECT_EQ(launches([&] { return run.both(x, y, &w, g, Reduction::kMean, loss, out); }),
            4u);  // and 2 / sum(w)
}

TEST(CudaModel, Scratch_IsReleasedIfAnAllocationFails) {
  battery::Shapes make;
  battery::Runner run(kernels());
  auto& settings = mseloss::cuda::model::Machine::current().settings;
  Operand x = make.dense(DType::kFloat32, {50000}, Values::kUnit),
          y = make.dense(DType::kFloat32, {50000}, Values::kUnit);
  Operand out = make.dense(DType::kFloat32, {}, Values::kUnit, true);
  const Bytes before = out.storage();
  int failed = 0;
  for (int i = 0; i < 10; ++i) {
    settings.fail_allocation = i;
    const std::string finding = run.loss(x, y, nullptr, Reduction::kSum, out);
    if (finding.empty()) break;
    EXPECT_NE(finding.find("device memory"), std::string::npos) << finding;
    EXPECT_EQ(before, out.storage());
    ++failed;
  }
  settings.fail_allocation = -1;
  EXPECT_EQ(failed, 3);  // digits, partial sums, tickets
}

// Every pattern of the half types is widened, and every value of float32 and float64 at, just below and just
// above a midpoint between two of them is rounded.
TEST(CudaModel, EveryHalfAndEveryMidpoint_ConvertsAsTheOracle) {
  battery::Runner run(kernels());
  battery::Shapes make;
  constexpr int64_t kPatterns = 1 << 16;
  for (const DType half : {DType::kFloat16, DType::kBFloat16}) {
    // x * 2 * 0.5
    Operand x = make.dense(half, {kPatterns}, Values::kUnit), zero = make.dense(half, {}, Values::kUnit);
    Operand g = make.dense(half, {}, Values::kUnit), out = make.dense(half, {kPatterns}, Values::kUnit, true);
    for (int64_t i = 0; i < kPatterns; ++i) oracle::store(half, x.at(i), static_cast<uint64_t>(i));
    oracle::store(half, zero.at(0), 0);
    oracle::store(half, g.at(0), oracle::encode(half, 0.5));
    EXPECT_EQ(run.grad(g, x, zero, Reduction::kSum, out), "") << mseloss::name_of(half);
    for (const DType wide : {DType::kFloat32, DType::kFloat64}) {
      Operand middles = make.dense(wide, {3 * kPatterns}, Values::kUnit),
              nothing = make.dense(wide, {}, Values::kUnit);
      Operand one_half = make.dense(wide, {}, Values::kUnit);
      Operand rounded = make.dense(half, {3 * kPatterns}, Values::kUnit, true);
      for (int64_t i = 0; i < kPatterns; ++i) {
        const auto value = [&](int64_t pattern) {
          return oracle::decode(half, static_cast<uint64_t>(pattern) % kPatterns);
        };
        // Between the largest value and infinity, as if the format went on.
        const double low = value(i), high = std::isinf(value(i + 1)) ? 2 * low - value(i - 1) : value(i + 1);
        const double middle = std::isfinite(low) && std::isfinite(high) ? low / 2 + high / 2 : low;
        for (int64_t k = 0; k < 3; ++k) {
          const uint64_t bits = oracle::encode(wide, middle);
          oracle::store(wide, middles.at(3 * i + k), bits == 0 ? bits : bits + static_cast<uint64_t>(k - 1));
        }
      }
      oracle::store(wide, nothing.at(0), 0);
      oracle::store(wide, one_half.at(0), oracle::encode(wide, 0.5));
      EXPECT_EQ(run.grad(one_half, middles, nothing, Reduction::kSum, rounded), "")
          << mseloss::name_of(wide) << " to " << mseloss::name_of(half);
    }
  }
}

// What MSELOSS_DEVICE=cuda does with operands in host memory.
TEST(CudaStaging, RandomOperands_GiveTheBitsOfTheCpu) {
  Random random(11);
  auto& settings = mseloss::cuda::model::Machine::current().settings;
  settings.scratch_unit = 1;  // the images of the operands are scratch memory of the model
  for (int i = 0; i < 100; ++i) {
    const DType dtype = random.pick(kDTypes), to = random.pick(kDTypes);
    const Shape shape = random_shape(random, 300);
    Operand g(random, dtype, shape, random.pick(kLayouts)),
        x(random, dtype, shape, random.pick(kLayouts), true);
    Operand y(random, dtype, shape, random.pick(kLayouts)), out(random, to, shape, cases::Layout::kAny, true);
    for (Operand* o : {&g, &x, &y}) o->fill(random, Values::kUnit);
    const bool in_place = random.chance(20);
    Operand& result = in_place ? x : out;
    const auto expected = oracle::grad(g.view(), x.view(), y.view(), Reduction::kMean, result.dtype());
    Bytes before = result.storage();
    Plan plan;
    ASSERT_TRUE(
        mseloss::make_grad_plan(g.view(), x.view(), y.view(), Reduction::kMean, result.tensor(), &plan).ok());
    const Buffers buffers{g.view().data, x.view().data, y.view().data, result.tensor().data, nullptr};
    Status status = mseloss::cuda::run_staged(driver(kernels()), plan, buffers, {});
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_TRUE(holds(result, expected, before));
    Shape kept = shape;
    for (int64_t& extent : kept) {
      if (random.chance(50)) extent = 1;
    }
    Operand loss(random, to, kept, cases::Layout::kAny, true);
    const auto sums =
        weighted::reference(y.view(), g.view(), nullptr, nullptr, Reduction::kSum, kept, to, to).loss;
    before = loss.storage();
    ASSERT_TRUE(mseloss::make_loss_plan(y.view(), g.view(), Reduction::kSum, loss.tensor(), &plan).ok());
    status = mseloss::cuda::run_staged(
        driver(kernels()), plan,
        {nullptr, y.view().data, g.view().data, loss.tensor().data, loss.tensor().data}, {});
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_TRUE(holds(loss, sums, before));
  }
  settings.scratch_unit = 4;
}

// On a machine without a driver, or without the library of the kernels, a call says so and writes nothing.
TEST(CudaDevice, CallOnIt_RunsOrSaysWhyNot) {
  float x[4] = {1, 2, 3, 4}, y[4] = {}, g = 1, out[4] = {5, 5, 5, 5};
  const int64_t shape[] = {4};
  Options options;
  options.device = mseloss::Device::kCuda;
  const Status status = mseloss::grad(&g, {x, shape}, {y, shape}, Reduction::kSum, {out, shape}, options);
  if (status.ok()) GTEST_SKIP() << "a card that accesses all memory of the host";
  EXPECT_EQ(status.code(), Code::kDevice);
  std::printf("%s\n", status.message());
  EXPECT_NE(std::string(status.message()).find("expected"), std::string::npos);
  for (const float value : out) EXPECT_EQ(value, 5);
}

TEST(CudaDevice, PartialSumsAndExplain_KnowTheDevice) {
  Options options;
  options.device = mseloss::Device::kCuda;
  alignas(64) float x[64] = {}, y[64] = {}, g = 1, out[64];
  const int64_t shape[] = {64}, square[] = {8, 8}, turned[] = {1, 8};
  mseloss::PartialSum sum;
  EXPECT_EQ(sum.add({x, shape}, {y, shape}, mseloss::PartialSum::Mode::kFast, options).code(), Code::kDevice);
  const auto explain = [&](const ConstTensor& target, const Tensor& result) {
    return mseloss::explain(&g, {x, result.shape}, target, Reduction::kSum, result, options);
  };
  EXPECT_EQ(explain({y, shape}, {out, shape}), "CUDA, dense: 16 bytes of every operand per load");
  EXPECT_EQ(explain({y, square, turned}, {out, square}),
            "CUDA, general: 2 dimensions after coalescing, one element per load");
}

// Reciprocals of every extent up to 2^12 and around powers of two, for indices around multiples and the
// largest.
TEST(CudaDivisor, Quotients_AreExact) {
  std::vector<int64_t> extents;
  for (int64_t d = 1; d < 4096; ++d) extents.push_back(d);
  for (int bit = 12; bit < 63; ++bit) {
    for (const int64_t near : {-1, 0, 1}) extents.push_back((int64_t{1} << bit) + near);
  }
  extents.push_back(INT64_MAX);
  Random random(5);
  for (const int64_t extent : extents) {
    const auto divisor = mseloss::cuda::make_divisor(extent);
    const auto check = [&](uint64_t n) {
      if (n > INT64_MAX) return;
      const uint64_t q =
          divisor.multiplier == 0
              ? n
              : static_cast<uint64_t>(static_cast<unsigned __int128>(n) * divisor.multiplier >> 64) >>
                    divisor.shift;
      ASSERT_EQ(q, n / static_cast<uint64_t>(extent)) << n << " / " << extent;
    };
    for (const uint64_t multiple :
         {uint64_t{0}, uint64_t{1}, uint64_t{2}, INT64_MAX / static_cast<uint64_t>(extent),
          random.bits() % (INT64_MAX / static_cast<uint64_t>(extent) + 1)}) {
      for (const int near : {-1, 0, 1})
        check(multiple * static_cast<uint64_t>(extent) + static_cast<uint64_t>(near));
    }
    check(INT64_MAX);
    check(random.bits() >> 1);
  }
}

}  // namespace
