// Version and modes of the device: queries with fixed answers, and settings without effect.
#include "acl/runtime.h"

using namespace mseloss::acl;

aclError aclrtGetVersion(int32_t* majorVersion, int32_t* minorVersion, int32_t* patchVersion) {
  if (const aclError code = check_not_null(__func__, "majorVersion", majorVersion)) return code;
  if (const aclError code = check_not_null(__func__, "minorVersion", minorVersion)) return code;
  if (const aclError code = check_not_null(__func__, "patchVersion", patchVersion)) return code;
  *majorVersion = ACL_MAJOR_VERSION;
  *minorVersion = ACL_MINOR_VERSION;
  *patchVersion = ACL_PATCH_VERSION;
  return ACL_SUCCESS;
}

aclError aclrtSetDeviceSatMode(aclrtFloatOverflowMode mode) {
  if (mode == ACL_RT_OVERFLOW_MODE_INFNAN) return ACL_SUCCESS;
  const bool known = mode == ACL_RT_OVERFLOW_MODE_SATURATION;
  return fail(known ? ACL_ERROR_RT_FEATURE_NOT_SUPPORT : ACL_ERROR_RT_PARAM_INVALID,
              "%s: mode: expected ACL_RT_OVERFLOW_MODE_INFNAN (1), got %d", __func__, static_cast<int>(mode));
}

aclError aclrtGetDeviceSatMode(aclrtFloatOverflowMode* mode) {
  if (const aclError code = check_not_null(__func__, "mode", mode)) return code;
  *mode = ACL_RT_OVERFLOW_MODE_INFNAN;
  return ACL_SUCCESS;
}

aclError aclrtSetStreamFailureMode(aclrtStream stream, uint64_t mode) {
  Streams::Pin pin;
  if (const aclError code = find_stream(__func__, stream, &pin)) return code;
  if (mode == ACL_CONTINUE_ON_FAILURE) return ACL_SUCCESS;
  const bool known = mode == ACL_STOP_ON_FAILURE;
  return fail(known ? ACL_ERROR_RT_FEATURE_NOT_SUPPORT : ACL_ERROR_RT_PARAM_INVALID,
              "%s: mode: expected ACL_CONTINUE_ON_FAILURE (0), got %llu", __func__,
              static_cast<unsigned long long>(mode));
}

aclError aclrtSetOpWaitTimeout(uint32_t) { return ACL_SUCCESS; }
aclError aclrtSetOpExecuteTimeOut(uint32_t) { return ACL_SUCCESS; }
aclError aclrtSetOpExecuteTimeOutWithMs(uint32_t) { return ACL_SUCCESS; }

aclError aclrtSetOpExecuteTimeOutV2(uint64_t timeout, uint64_t* actualTimeout) {
  if (const aclError code = check_not_null(__func__, "actualTimeout", actualTimeout)) return code;
  *actualTimeout = timeout;
  return ACL_SUCCESS;
}

aclError aclrtGetOpTimeOutInterval(uint64_t* interval) {
  if (const aclError code = check_not_null(__func__, "interval", interval)) return code;
  *interval = 1;
  return ACL_SUCCESS;
}
