// The functions of acl_base.h: sizes of data types, conversion of float16.
#include "acl/acl_base_rt.h"

#include <algorithm>
#include <initializer_list>

#include "numerics/float_environment.h"
#include "numerics/formats.h"

size_t aclDataTypeSize(aclDataType dataType) {
  const auto is_one_of = [=](std::initializer_list<aclDataType> list) {
    return std::ranges::find(list, dataType) != list.end();
  };
  if (is_one_of({ACL_INT8, ACL_UINT8, ACL_BOOL, ACL_HIFLOAT8, ACL_FLOAT8_E5M2, ACL_FLOAT8_E4M3FN,
                 ACL_FLOAT8_E8M0})) {
    return 1;
  }
  if (is_one_of({ACL_FLOAT16, ACL_BF16, ACL_INT16, ACL_UINT16})) return 2;
  if (is_one_of({ACL_FLOAT, ACL_INT32, ACL_UINT32, ACL_COMPLEX32})) return 4;
  if (is_one_of({ACL_DOUBLE, ACL_INT64, ACL_UINT64, ACL_COMPLEX64})) return 8;
  return dataType == ACL_COMPLEX128 ? 16 : 0;
}

float aclFloat16ToFloat(aclFloat16 value) {
  return static_cast<float>(mseloss::load(mseloss::DType::kFloat16, &value));
}

aclFloat16 aclFloatToFloat16(float value) {
  const mseloss::FloatEnvironment environment;
  aclFloat16 half;
  mseloss::store_rounded(value, mseloss::DType::kFloat16, &half);
  return half;
}
