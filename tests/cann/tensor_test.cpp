// aclTensor: its properties and its errors.
#include <memory>

#include "tests/cann/session.h"

namespace {

using cann::Dims;
using cann::expect_message;

std::vector<int64_t> read(aclnnStatus (*get)(const aclTensor*, int64_t**, uint64_t*),
                          const aclTensor* tensor) {
  int64_t* numbers = nullptr;
  uint64_t count = 99;
  EXPECT_EQ(get(tensor, &numbers, &count), ACLNN_SUCCESS);
  const std::unique_ptr<int64_t[]> owned(numbers);
  return {numbers, numbers + count};
}

TEST(TensorHandle, EveryProperty_IsReadBack) {
  float memory[64];
  cann::Tensor tensor(memory, {2, 3}, ACL_BF16,
                      {.strides = {8, 2}, .offset = 5, .storage = {4, 16}, .format = ACL_FORMAT_NHWC});
  int64_t offset = 0;
  aclFormat format;
  aclDataType dtype;
  void* address = nullptr;
  EXPECT_EQ(read(aclGetViewShape, tensor), (Dims{2, 3}));
  EXPECT_EQ(read(aclGetViewStrides, tensor), (Dims{8, 2}));
  EXPECT_EQ(read(aclGetStorageShape, tensor), (Dims{4, 16}));
  EXPECT_EQ(aclGetViewOffset(tensor, &offset), ACLNN_SUCCESS);
  EXPECT_EQ(offset, 5);
  EXPECT_EQ(aclGetFormat(tensor, &format), ACLNN_SUCCESS);
  EXPECT_EQ(format, ACL_FORMAT_NHWC);
  EXPECT_EQ(aclGetDataType(tensor, &dtype), ACLNN_SUCCESS);
  EXPECT_EQ(dtype, ACL_BF16);
  EXPECT_EQ(aclGetRawTensorAddr(tensor, &address), ACLNN_SUCCESS);
  EXPECT_EQ(address, memory);
  EXPECT_EQ(aclSetRawTensorAddr(tensor, memory + 1), ACLNN_SUCCESS);
  EXPECT_EQ(aclGetRawTensorAddr(tensor, &address), ACLNN_SUCCESS);
  EXPECT_EQ(address, memory + 1);
}

TEST(TensorHandle, NullStrides_AreContiguous) {
  float memory[24];
  cann::Tensor tensor(memory, {2, 3, 4});
  EXPECT_EQ(read(aclGetViewStrides, tensor), (Dims{12, 4, 1}));
}

TEST(TensorHandle, NoDimensions_IsAScalar) {
  float memory[1];
  cann::Tensor tensor(memory, {});
  EXPECT_EQ(read(aclGetViewShape, tensor), Dims{});
  EXPECT_EQ(read(aclGetViewStrides, tensor), Dims{});
}

TEST(TensorHandle, InitialisedAgain_HasTheNewProperties) {
  float memory[24];
  cann::Tensor tensor(memory, {2, 3, 4});
  const int64_t shape[] = {6};
  EXPECT_EQ(aclInitTensor(tensor, shape, 1, ACL_FLOAT16, nullptr, 2, ACL_FORMAT_ND, shape, 1, memory + 3),
            ACLNN_SUCCESS);
  EXPECT_EQ(read(aclGetViewShape, tensor), Dims{6});
  EXPECT_EQ(aclInitTensor(nullptr, shape, 1, ACL_FLOAT16, nullptr, 2, ACL_FORMAT_ND, shape, 1, memory),
            ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(aclInitTensor(tensor, nullptr, 1, ACL_FLOAT16, nullptr, 2, ACL_FORMAT_ND, shape, 1, memory),
            ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(read(aclGetViewShape, tensor), Dims{6});
}

TEST(TensorHandle, CannotBeCreated_IsNullWithAMessage) {
  float memory[4];
  const int64_t good[] = {4}, bad[] = {-4};
  const auto create = [&](const int64_t* view, uint64_t rank, const int64_t* storage, uint64_t storage_rank) {
    return aclCreateTensor(view, rank, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, storage, storage_rank, memory);
  };
  EXPECT_EQ(create(nullptr, 1, good, 1), nullptr);
  expect_message("aclCreateTensor", "viewDims", "null");
  EXPECT_EQ(create(bad, 1, good, 1), nullptr);
  expect_message("aclCreateTensor", "viewDims", "-4");
  EXPECT_EQ(create(good, 1, nullptr, 1), nullptr);
  expect_message("aclCreateTensor", "storageDims", "null");
  EXPECT_EQ(create(good, 1, bad, 1), nullptr);
  expect_message("aclCreateTensor", "storageDims", "-4");
  EXPECT_EQ(create(good, UINT64_MAX, good, 1), nullptr);
  expect_message("aclCreateTensor", "viewDimsNum", std::to_string(UINT64_MAX));
}

TEST(TensorHandle, DestroyedTwiceOrNull_IsACode) {
  float memory[1];
  const int64_t one = 1;
  aclTensor* tensor = aclCreateTensor(&one, 1, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, &one, 1, memory);
  EXPECT_EQ(aclDestroyTensor(nullptr), ACLNN_SUCCESS);
  EXPECT_EQ(aclDestroyTensor(tensor), ACLNN_SUCCESS);
  EXPECT_EQ(aclDestroyTensor(tensor), ACLNN_ERR_PARAM_INVALID);
  expect_message("aclDestroyTensor", "tensor", "0x");
  int64_t offset;
  EXPECT_EQ(aclGetViewOffset(tensor, &offset), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclSetRawTensorAddr(tensor, memory), ACLNN_ERR_PARAM_INVALID);
}

TEST(TensorHandle, NullWhereAResultGoes_Is161001) {
  float memory[1];
  cann::Tensor tensor(memory, {1});
  int64_t* numbers = nullptr;
  uint64_t count;
  EXPECT_EQ(aclGetViewShape(nullptr, &numbers, &count), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(aclGetViewShape(tensor, nullptr, &count), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(aclGetViewShape(tensor, &numbers, nullptr), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(aclGetViewOffset(tensor, nullptr), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(aclGetFormat(tensor, nullptr), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(aclGetDataType(tensor, nullptr), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(aclGetRawTensorAddr(tensor, nullptr), ACLNN_ERR_PARAM_NULLPTR);
}

}  // namespace
