// The error message that aclGetRecentErrMsg returns, one per thread.
#pragma once

namespace mseloss::acl {

// Stores the formatted message for the calling thread and returns `code`, so that a check can be one line:
// return fail(code, "...", ...).
[[gnu::format(printf, 2, 3)]] int fail(int code, const char* format, ...) noexcept;

}  // namespace mseloss::acl
