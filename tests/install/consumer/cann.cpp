// Links the C++ library and libmseloss_cann, through the installed CMake package.
#include <acl/acl.h>
#include <mseloss/mseloss.h>

int main() {
  const bool ready = aclInit(nullptr) == ACL_SUCCESS && aclFinalize() == ACL_SUCCESS;
  return ready && mseloss::max_threads() > 0 ? 0 : 1;
}
