// MSELOSS_DEVICE selects the device that runs aclnn operators.
#include "aclnn/device.h"

#include <cstdlib>
#include <cstring>

#include "tests/cann/session.h"

namespace {

TEST(Device, InUse_IsTheOneTheEnvironmentNames) {
  const char* name = std::getenv("MSELOSS_DEVICE");
  ASSERT_NE(mseloss::aclnn::device(), nullptr);
  EXPECT_STREQ(mseloss::aclnn::device()->name, name == nullptr ? "cpu" : name);
}

void call_on_unknown_device() {
  setenv("MSELOSS_DEVICE", "no-such-device", 1);
  bool refused;
  {
    cann::Process process;
    float x[1] = {};
    cann::Tensor tx(x, {1});
    uint64_t workspace;
    aclOpExecutor* executor = nullptr;
    EXPECT_EQ(aclnnMseLossBackwardGetWorkspaceSize(tx, tx, tx, 0, tx, &workspace, &executor), ACLNN_SUCCESS);
    refused = aclnnMseLossBackward(nullptr, 0, executor, nullptr) == ACLNN_ERR_RUNTIME_ERROR &&
              std::strstr(aclGetRecentErrMsg(), "MSELOSS_DEVICE") != nullptr;
  }
  std::exit(refused ? 0 : 1);
}

TEST(DeviceDeathTest, UnknownName_Is361001) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(call_on_unknown_device(), testing::ExitedWithCode(0), "");
}

}  // namespace
