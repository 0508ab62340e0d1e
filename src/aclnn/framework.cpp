// Functions that frameworks look up by name in CANN's libraries and call around an operator. They manage a
// pool of workspaces there; the operators here need none, so they do nothing. No public header declares them.
#include "aclnn/acl_meta.h"

extern "C" {

ACL_FUNC_VISIBILITY int InitHugeMemThreadLocal(void*, bool) { return 0; }
ACL_FUNC_VISIBILITY void UnInitHugeMemThreadLocal(void*, bool) {}
ACL_FUNC_VISIBILITY void ReleaseHugeMem(void*, bool) {}

}  // extern "C"
