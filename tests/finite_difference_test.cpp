// The gradient operators compared with central differences of the loss operator, in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "mseloss/mseloss.h"

namespace {

using mseloss::Reduction;

// The loss is quadratic, so a central difference equals its derivative up to rounding.
constexpr double kStep = 0x1p-10, kTolerance = 1e-9;

class FiniteDifference : public testing::TestWithParam<Reduction> {};

INSTANTIATE_TEST_SUITE_P(Float64, FiniteDifference, testing::Values(Reduction::kMean, Reduction::kSum),
                         [](const auto& instance) { return std::string(mseloss::name_of(instance.param)); });

TEST_P(FiniteDifference, EveryElementOfTheInput_AgreesWithBothGradientOperators) {
  const std::vector<int64_t> shape{7, 9}, row{9};
  std::mt19937_64 random(20261123);
  std::normal_distribution<double> normal;
  std::vector<double> x(63), y(9), separate(63), fused(63);
  for (double& value : x) value = normal(random);
  for (double& value : y) value = normal(random);
  const double g = 0.75;
  double value;
  ASSERT_TRUE(
      mseloss::grad(&g, {x.data(), shape}, {y.data(), row}, GetParam(), {separate.data(), shape}).ok());
  ASSERT_TRUE(mseloss::loss_and_grad({x.data(), shape}, {y.data(), row}, GetParam(), &g, &value,
                                     {fused.data(), shape})
                  .ok());
  const auto loss_at = [&](size_t i, double at) {
    const double kept = std::exchange(x[i], at);
    double result = NAN;
    EXPECT_TRUE(mseloss::loss({x.data(), shape}, {y.data(), row}, GetParam(), &result).ok());
    x[i] = kept;
    return result;
  };
  for (size_t i = 0; i < x.size(); ++i) {
    const double difference = g * (loss_at(i, x[i] + kStep) - loss_at(i, x[i] - kStep)) / (2 * kStep);
    EXPECT_NEAR(separate[i], difference, kTolerance) << "element " << i;
    EXPECT_EQ(separate[i], fused[i]) << "element " << i;
  }
}

TEST(LossLaw, MeanTimesCount_IsTheSumToOneRounding) {
  std::mt19937_64 random(20261123);
  std::normal_distribution<double> normal;
  for (int64_t count = 1; count < 3000; count += 7) {
    std::vector<double> x(count), y(count);
    for (double& value : x) value = normal(random);
    for (double& value : y) value = normal(random);
    const std::vector<int64_t> shape{count};
    double mean, sum;
    ASSERT_TRUE(mseloss::loss({x.data(), shape}, {y.data(), shape}, Reduction::kMean, &mean).ok());
    ASSERT_TRUE(mseloss::loss({x.data(), shape}, {y.data(), shape}, Reduction::kSum, &sum).ok());
    EXPECT_NEAR(mean * static_cast<double>(count), sum, 2 * 0x1p-53 * sum) << count << " elements";
  }
}

}  // namespace
