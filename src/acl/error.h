// The calling thread's error: the message that aclGetRecentErrMsg returns, and the code that
// aclrtGetLastError returns.
#pragma once

namespace mseloss::acl {

// Stores the formatted message and the code for the calling thread and returns `code`, so that a check can be
// one line: return fail(code, "...", ...).
[[gnu::format(printf, 2, 3)]] int fail(int code, const char* format, ...) noexcept;

// 0, or the error of a null pointer.
int check_not_null(const char* function, const char* parameter, const void* pointer) noexcept;

}  // namespace mseloss::acl

namespace mseloss::aclnn {

// The same for aclnn functions, except that aclrtGetLastError does not return their codes.
[[gnu::format(printf, 2, 3)]] int fail(int code, const char* format, ...) noexcept;

}  // namespace mseloss::aclnn
