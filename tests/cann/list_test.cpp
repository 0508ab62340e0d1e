// Scalars, arrays and lists: create, size, destroy, and their errors.
#include "tests/cann/session.h"

namespace {

using cann::expect_message;

template <class Handle, class Element>
void check_array(Handle* (*create)(const Element*, uint64_t), aclnnStatus (*destroy)(const Handle*),
                 aclnnStatus (*get_size)(const Handle*, uint64_t*)) {
  const Element values[3] = {};
  uint64_t size = 99;
  Handle* array = create(values, 3);
  ASSERT_NE(array, nullptr);
  EXPECT_EQ(get_size(array, &size), ACLNN_SUCCESS);
  EXPECT_EQ(size, 3u);
  EXPECT_EQ(get_size(nullptr, &size), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(get_size(array, nullptr), ACLNN_ERR_PARAM_NULLPTR);
  EXPECT_EQ(destroy(array), ACLNN_SUCCESS);
  EXPECT_EQ(destroy(array), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(get_size(array, &size), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(destroy(nullptr), ACLNN_SUCCESS);
  Handle* empty = create(nullptr, 0);
  ASSERT_NE(empty, nullptr);
  EXPECT_EQ(get_size(empty, &size), ACLNN_SUCCESS);
  EXPECT_EQ(size, 0u);
  EXPECT_EQ(destroy(empty), ACLNN_SUCCESS);
  EXPECT_EQ(create(nullptr, 1), nullptr);
  expect_message("aclCreate", "value", "null");
  EXPECT_EQ(create(values, UINT64_MAX), nullptr);
  EXPECT_NE(cann::message().find("out of memory"), std::string::npos);
}

TEST(Lists, EveryArray_KnowsItsSizeAndEndsOnce) {
  check_array(aclCreateIntArray, aclDestroyIntArray, aclGetIntArraySize);
  check_array(aclCreateFloatArray, aclDestroyFloatArray, aclGetFloatArraySize);
  check_array(aclCreateBoolArray, aclDestroyBoolArray, aclGetBoolArraySize);
  check_array(aclCreateFp16Array, aclDestroyFp16Array, aclGetFp16ArraySize);
  check_array(aclCreateBf16Array, aclDestroyBf16Array, aclGetBf16ArraySize);
  check_array(aclCreateTensorList, aclDestroyTensorList, aclGetTensorListSize);
  check_array(aclCreateScalarList, aclDestroyScalarList, aclGetScalarListSize);
}

TEST(Lists, HandleOfAnotherType_IsRefused) {
  const int64_t values[] = {1, 2};
  uint64_t size;
  aclIntArray* array = aclCreateIntArray(values, 2);
  EXPECT_EQ(aclGetFloatArraySize(reinterpret_cast<aclFloatArray*>(array), &size), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclDestroyTensorList(reinterpret_cast<aclTensorList*>(array)), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclDestroyScalar(reinterpret_cast<aclScalar*>(&size)), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclDestroyIntArray(array), ACLNN_SUCCESS);
}

TEST(Lists, Scalar_OfEveryWholeByteType) {
  double value[2] = {1, 2};
  for (int type = -1; type <= 50; ++type) {
    const auto dtype = static_cast<aclDataType>(type);
    aclScalar* scalar = aclCreateScalar(value, dtype);
    EXPECT_EQ(scalar != nullptr, aclDataTypeSize(dtype) != 0) << type;
    EXPECT_EQ(aclDestroyScalar(scalar), ACLNN_SUCCESS);
  }
  EXPECT_EQ(aclCreateScalar(nullptr, ACL_FLOAT), nullptr);
  EXPECT_EQ(OK, ACLNN_SUCCESS);
}

TEST(Lists, DestroyedList_DestroysItsElements) {
  float memory[1] = {}, number = 1;
  const int64_t one = 1;
  const aclTensor* tensor = aclCreateTensor(&one, 1, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, &one, 1, memory);
  const aclScalar* scalar = aclCreateScalar(&number, ACL_FLOAT);
  aclTensorList* tensors = aclCreateTensorList(&tensor, 1);
  aclScalarList* scalars = aclCreateScalarList(&scalar, 1);
  EXPECT_EQ(aclDestroyTensorList(tensors), ACLNN_SUCCESS);
  EXPECT_EQ(aclDestroyScalarList(scalars), ACLNN_SUCCESS);
  EXPECT_EQ(aclDestroyTensor(tensor), ACLNN_ERR_PARAM_INVALID);
  EXPECT_EQ(aclDestroyScalar(scalar), ACLNN_ERR_PARAM_INVALID);
}

}  // namespace
