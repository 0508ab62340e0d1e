// Fault injection for one program: every allocation (malloc and its relatives, hence operator new and TBB's
// own memory), every start of a thread and every library that is loaded counts, in all threads. A chosen one
// fails, or that one and all after it. Include it in one file of a program; it replaces the functions, except
// in programs with a sanitizer, which replaces them itself.
#pragma once

#include <dlfcn.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

extern char** environ;

namespace injection {

inline std::atomic<int64_t> countdown{INT64_MAX};  // events until the first that fails
inline std::atomic<bool> onwards{false};           // all later events fail too
inline std::atomic<int64_t> failed{0};

inline thread_local bool in_loader = false;

inline bool fails() noexcept {
  if (in_loader) return false;
  const int64_t left = countdown.load(std::memory_order_relaxed);
  if (left == INT64_MAX) return false;
  const int64_t mine = countdown.fetch_sub(1);
  const bool hit = mine == 0 || (mine < 0 && onwards);
  failed += hit;
  return hit;
}

// Event number k of its lifetime fails, counted from 0.
class Failure {
 public:
  Failure(int64_t k, bool and_all_later) {
    onwards = and_all_later;
    failed = 0;
    countdown = k;
  }
  ~Failure() { countdown = INT64_MAX; }
  bool happened() const { return failed != 0; }
};

// Starts this program again with the given arguments and returns its exit code; -1 if it ended with a signal.
inline int run_this_program(std::initializer_list<const char*> arguments) {
  std::vector<char*> argv{const_cast<char*>("/proc/self/exe")};
  for (const char* argument : arguments) argv.push_back(const_cast<char*>(argument));
  argv.push_back(nullptr);
  pid_t child;
  int status = 0;
  if (posix_spawn(&child, argv[0], nullptr, nullptr, argv.data(), environ) != 0) return -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace injection

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#pragma GCC visibility push(default)
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

inline void* injection_out_of_memory() {
  errno = ENOMEM;
  return nullptr;
}

void* malloc(size_t size) { return injection::fails() ? injection_out_of_memory() : __libc_malloc(size); }
void* calloc(size_t count, size_t size) {
  return injection::fails() ? injection_out_of_memory() : __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  return injection::fails() ? injection_out_of_memory() : __libc_realloc(memory, size);
}
void* memalign(size_t alignment, size_t size) {
  return injection::fails() ? injection_out_of_memory() : __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** memory, size_t alignment, size_t size) {
  if (injection::fails()) return ENOMEM;
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}
// TBB's allocator takes its memory from here. Defined for the callers that are linked dynamically.
void* mmap(void* address, size_t size, int protection, int flags, int file, off_t offset) {
  if (injection::fails()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, size, protection, flags, file, offset));
}
// Loading a library is one event. The loader's own allocations do not fail: glibc 2.36 crashes if one does
// while a constructor of the library loads another.
void* dlopen(const char* name, int mode) {
  static const auto real = reinterpret_cast<decltype(&dlopen)>(dlsym(RTLD_NEXT, "dlopen"));
  if (injection::fails()) return nullptr;
  const bool outer = !injection::in_loader;
  injection::in_loader = true;
  void* const library = real(name, mode);
  if (outer) injection::in_loader = false;
  return library;
}
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*),
                   void* argument) {
  static const auto real = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return injection::fails() ? EAGAIN : real(thread, attributes, body, argument);
}
}
#pragma GCC visibility pop
#endif
