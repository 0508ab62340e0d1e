#include "acl/acl_base_rt.h"

#include "numerics/float_environment.h"
#include "numerics/formats.h"

size_t aclDataTypeSize(aclDataType dataType) {
  switch (dataType) {
    case ACL_INT8:
    case ACL_UINT8:
    case ACL_BOOL:
    case ACL_HIFLOAT8:
    case ACL_FLOAT8_E5M2:
    case ACL_FLOAT8_E4M3FN:
    case ACL_FLOAT8_E8M0:
      return 1;
    case ACL_FLOAT16:
    case ACL_BF16:
    case ACL_INT16:
    case ACL_UINT16:
      return 2;
    case ACL_FLOAT:
    case ACL_INT32:
    case ACL_UINT32:
    case ACL_COMPLEX32:
      return 4;
    case ACL_DOUBLE:
    case ACL_INT64:
    case ACL_UINT64:
    case ACL_COMPLEX64:
      return 8;
    case ACL_COMPLEX128:
      return 16;
    default:
      return 0;
  }
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
