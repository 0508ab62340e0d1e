// What the framework adapters share: functions of CANN's libraries, found by name at run time. The programs
// link none of these libraries.
#pragma once

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "acl/acl.h"
#include "aclnnop/aclnn_mse_loss.h"
#include "aclnnop/aclnn_mse_loss_backward.h"
#include "aclnnop/aclnn_mse_loss_out.h"
#include "opdev/op_errno.h"

namespace adapters {

// The libraries in the order in which a framework searches them. One that does not exist is skipped: nobody
// has installed custom operators here.
inline void* find(const char* name) {
  static void* const libraries[] = {dlopen("libcust_opapi.so", RTLD_LAZY), dlopen("libopapi.so", RTLD_LAZY),
                                    dlopen("libnnopbase.so", RTLD_LAZY), dlopen("libascendcl.so", RTLD_LAZY)};
  for (void* library : libraries) {
    if (library == nullptr) continue;
    if (void* symbol = dlsym(library, name)) return symbol;
  }
  return nullptr;
}

template <class Function>
Function* optional(const char* name) {
  return reinterpret_cast<Function*>(find(name));
}

template <class Function>
Function* required(const char* name) {
  Function* function = optional<Function>(name);
  if (function == nullptr) throw std::runtime_error(std::string(name) + " is not in any library");
  return function;
}

}  // namespace adapters

// An acl or aclnn function, looked up once.
#define CANN(function)                                                              \
  ([] {                                                                             \
    static auto* const address = adapters::required<decltype(function)>(#function); \
    return address;                                                                 \
  }())

// Ends the program with the failed condition and the library's message.
#define REQUIRE(condition)                                                                                 \
  do {                                                                                                     \
    if (!(condition)) {                                                                                    \
      std::fprintf(stderr, "%s:%d: %s\n%s\n", __FILE__, __LINE__, #condition, CANN(aclGetRecentErrMsg)()); \
      std::exit(1);                                                                                        \
    }                                                                                                      \
  } while (0)
