#include "acl/error.h"

#include <cstdarg>
#include <cstdio>
#include <utility>

#include "acl/acl.h"

namespace mseloss::acl {
namespace {

// A fixed buffer, so that reporting an error cannot fail for lack of memory.
struct Message {
  char text[640];
  bool unread;
};
thread_local Message t_message;
thread_local int t_last_error = ACL_SUCCESS;

void store_message(const char* format, va_list arguments) noexcept {
  std::vsnprintf(t_message.text, sizeof(t_message.text), format, arguments);
  t_message.unread = true;
}

aclError check_level(const char* function, aclrtLastErrLevel level) noexcept {
  if (level == ACL_RT_THREAD_LEVEL) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: level: expected ACL_RT_THREAD_LEVEL, got %d", function,
              static_cast<int>(level));
}

}  // namespace

int fail(int code, const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  store_message(format, arguments);
  va_end(arguments);
  t_last_error = code;
  return code;
}

int check_not_null(const char* function, const char* parameter, const void* pointer) noexcept {
  if (pointer != nullptr) return ACL_SUCCESS;
  return fail(ACL_ERROR_INVALID_PARAM, "%s: %s: expected an address, got null", function, parameter);
}

}  // namespace mseloss::acl

int mseloss::aclnn::fail(int code, const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  acl::store_message(format, arguments);
  va_end(arguments);
  return code;
}

using namespace mseloss::acl;

const char* aclGetRecentErrMsg(void) {
  if (!t_message.unread) t_message.text[0] = '\0';
  t_message.unread = false;
  return t_message.text;
}

aclError aclrtPeekAtLastError(aclrtLastErrLevel level) {
  if (const aclError code = check_level(__func__, level)) return code;
  return t_last_error;
}

aclError aclrtGetLastError(aclrtLastErrLevel level) {
  if (const aclError code = check_level(__func__, level)) return code;
  return std::exchange(t_last_error, ACL_SUCCESS);
}
