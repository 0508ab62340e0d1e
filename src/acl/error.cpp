#include "acl/error.h"

#include <cstdarg>
#include <cstdio>

#include "acl/acl.h"

namespace mseloss::acl {
namespace {

// A fixed buffer, so that reporting an error cannot fail for lack of memory.
struct Message {
  char text[640];
  bool unread;
};
thread_local Message t_message;

}  // namespace

int fail(int code, const char* format, ...) noexcept {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(t_message.text, sizeof(t_message.text), format, arguments);
  va_end(arguments);
  t_message.unread = true;
  return code;
}

}  // namespace mseloss::acl

const char* aclGetRecentErrMsg(void) {
  auto& message = mseloss::acl::t_message;
  if (!message.unread) message.text[0] = '\0';
  message.unread = false;
  return message.text;
}
