// Profiler ranges, which frameworks push and pop even if no profiler runs. There is no profiler here.
#include "acl/acl_prof.h"
#include "acl/error.h"

using mseloss::acl::check_not_null;

// FNV-1a.
uint64_t aclprofStr2Id(const char* message) {
  if (message == nullptr) return 0;
  uint64_t hash = 0xcbf29ce484222325;
  for (const char* c = message; *c != '\0'; ++c)
    hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3;
  return hash;
}

aclError aclprofRangePushEx(aclprofEventAttributes* attr) { return check_not_null(__func__, "attr", attr); }

aclError aclprofRangePop(void) { return ACL_SUCCESS; }
