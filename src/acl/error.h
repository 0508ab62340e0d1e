// The calling thread's last error, for aclGetRecentErrMsg.
#pragma once

namespace mseloss::acl {

// Keeps the message and returns the code, so that a check is one line: return fail(code, "...", ...).
[[gnu::format(printf, 2, 3)]] int fail(int code, const char* format, ...) noexcept;

}  // namespace mseloss::acl
