// Fixtures for tests of the acl and aclnn functions: a device, a stream, and owners of handles.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "acl/acl.h"
#include "aclnn/acl_meta.h"
#include "aclnnop/aclnn_mse_loss.h"
#include "aclnnop/aclnn_mse_loss_backward.h"
#include "aclnnop/aclnn_mse_loss_out.h"
#include "opdev/op_errno.h"

namespace cann {

using Dims = std::vector<int64_t>;

// Calls aclInit and sets the device for its lifetime; at most one at a time in a process.
struct Process {
  Process() {
    EXPECT_EQ(aclInit(nullptr), ACL_SUCCESS) << aclGetRecentErrMsg();
    EXPECT_EQ(aclrtSetDevice(0), ACL_SUCCESS) << aclGetRecentErrMsg();
  }
  ~Process() {
    EXPECT_EQ(aclrtResetDevice(0), ACL_SUCCESS) << aclGetRecentErrMsg();
    EXPECT_EQ(aclFinalize(), ACL_SUCCESS) << aclGetRecentErrMsg();
  }
};

struct Stream {
  Stream() { EXPECT_EQ(aclrtCreateStream(&handle), ACL_SUCCESS) << aclGetRecentErrMsg(); }
  ~Stream() { EXPECT_EQ(aclrtDestroyStream(handle), ACL_SUCCESS) << aclGetRecentErrMsg(); }
  Stream(const Stream&) = delete;
  operator aclrtStream() const { return handle; }
  aclrtStream handle = nullptr;
};

struct Event {
  Event() { EXPECT_EQ(aclrtCreateEvent(&handle), ACL_SUCCESS) << aclGetRecentErrMsg(); }
  ~Event() { EXPECT_EQ(aclrtDestroyEvent(handle), ACL_SUCCESS) << aclGetRecentErrMsg(); }
  Event(const Event&) = delete;
  operator aclrtEvent() const { return handle; }
  aclrtEvent handle = nullptr;
};

struct View {
  Dims strides = {};  // empty: contiguous
  int64_t offset = 0;
  Dims storage = {-1};  // {-1}: the shape of the view
  aclFormat format = ACL_FORMAT_ND;
};

struct Tensor {
  Tensor(void* data, const Dims& shape, aclDataType dtype = ACL_FLOAT, const View& view = {}) {
    const Dims& storage = view.storage == Dims{-1} ? shape : view.storage;
    handle = aclCreateTensor(shape.data(), shape.size(), dtype,
                             view.strides.empty() ? nullptr : view.strides.data(), view.offset, view.format,
                             storage.data(), storage.size(), data);
    EXPECT_NE(handle, nullptr) << aclGetRecentErrMsg();
  }
  ~Tensor() { destroy(); }
  void destroy() {
    EXPECT_EQ(aclDestroyTensor(handle), ACLNN_SUCCESS);
    handle = nullptr;
  }
  Tensor(const Tensor&) = delete;
  operator aclTensor*() const { return handle; }
  aclTensor* handle = nullptr;
};

inline std::string message() { return aclGetRecentErrMsg(); }

// Checks that the error message contains the function or context, the parameter, "expected" and what was
// given.
inline void expect_message(const std::string& what, const std::string& parameter, const std::string& given) {
  const std::string text = message();
  EXPECT_NE(text.find(what), std::string::npos) << text;
  EXPECT_NE(text.find(parameter), std::string::npos) << text;
  EXPECT_NE(text.find("expected"), std::string::npos) << text;
  EXPECT_NE(text.find(given), std::string::npos) << text;
}

class Test : public testing::Test {
 protected:
  Process process;
  Stream stream;
};

}  // namespace cann
