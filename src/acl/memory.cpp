// Allocation, copies and fills. Device memory is host memory, so every copy kind is a memmove.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "acl/runtime.h"

namespace mseloss::acl {
namespace {

constexpr size_t kAlignment = 64;         // bytes: a cache line and the widest vector
constexpr size_t kHugePage = 2u << 20;    // bytes; huge pages would waste memory for smaller blocks
constexpr size_t kInlineBytes = 1 << 18;  // up to this size a copy costs less than waking the worker

enum class MemoryKind : uint8_t { kDevice, kHost };

size_t physical_memory() noexcept {
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// The live blocks, by address. Keys are complemented so that a leak detector does not see a reference to the
// block here. Never destroyed: blocks may be freed during process exit.
struct Allocations {
  std::mutex mutex;
  std::unordered_map<uintptr_t, MemoryKind> blocks;
  static uintptr_t key(void* pointer) { return ~reinterpret_cast<uintptr_t>(pointer); }
};
Allocations& allocations() {
  static Allocations& the = *new Allocations;
  return the;
}

void* allocate(size_t size, MemoryKind place) noexcept {
  if (size > physical_memory()) return nullptr;
  void* pointer = nullptr;
  const bool large = size >= kHugePage;
  if (posix_memalign(&pointer, large ? kHugePage : kAlignment, size) != 0) return nullptr;
  if (large) madvise(pointer, size, MADV_HUGEPAGE);  // failure is harmless: ordinary pages are used
  try {
    const std::lock_guard lock(allocations().mutex);
    allocations().blocks.emplace(Allocations::key(pointer), place);
    return pointer;
  } catch (...) {
    std::free(pointer);
    return nullptr;
  }
}

bool release(void* pointer, MemoryKind place) noexcept {
  try {
    const std::lock_guard lock(allocations().mutex);
    auto& blocks = allocations().blocks;
    const auto block = blocks.find(Allocations::key(pointer));
    if (block == blocks.end() || block->second != place) return false;
    blocks.erase(block);
  } catch (...) {
    return false;
  }
  std::free(pointer);
  return true;
}

aclError malloc_checked(const char* function, void** pointer, size_t size, MemoryKind place) noexcept {
  if (const aclError code = check_not_null(function, "pointer", pointer)) return code;
  if (size == 0) return fail(ACL_ERROR_INVALID_PARAM, "%s: size: expected at least 1 byte, got 0", function);
  if (const aclError code = check_context(function)) return code;
  void* memory = allocate(size, place);
  if (memory == nullptr) {
    return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "%s: out of memory for %zu bytes", function, size);
  }
  *pointer = memory;
  return ACL_SUCCESS;
}

aclError free_checked(const char* function, void* pointer, MemoryKind place, const char* source) noexcept {
  if (const aclError code = check_not_null(function, "pointer", pointer)) return code;
  if (release(pointer, place)) return ACL_SUCCESS;
  return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: pointer: expected a live block of %s, got %p", function,
              source, pointer);
}

aclError check_policy(const char* function, aclrtMemMallocPolicy policy) noexcept {
  const int value = static_cast<int>(policy);
  if (value >= ACL_MEM_MALLOC_HUGE_FIRST && value <= ACL_MEM_MALLOC_HUGE1G_ONLY_P2P) return ACL_SUCCESS;
  return fail(ACL_ERROR_INVALID_PARAM, "%s: policy: expected 0 to 7, got %d", function, value);
}

aclError check_copy(const char* function, const void* dst, size_t room, const void* src, size_t count,
                    aclrtMemcpyKind kind) noexcept {
  const int value = static_cast<int>(kind);
  if (value < ACL_MEMCPY_HOST_TO_HOST || value > ACL_MEMCPY_INTER_DEVICE_TO_DEVICE) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: kind: expected 0 to 7, got %d", function, value);
  }
  if (count != 0) {
    if (const aclError code = check_not_null(function, "dst", dst)) return code;
    if (const aclError code = check_not_null(function, "src", src)) return code;
  }
  if (count > room) {
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: count: expected at most destMax, %zu bytes, got %zu",
                function, room, count);
  }
  return check_context(function);
}

aclError check_fill(const char* function, const void* pointer, size_t room, size_t count) noexcept {
  if (count != 0) {
    if (const aclError code = check_not_null(function, "devPtr", pointer)) return code;
  }
  if (count > room) {
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: count: expected at most maxCount, %zu bytes, got %zu",
                function, room, count);
  }
  return check_context(function);
}

template <class Work>
aclError submit_bytes(const char* function, aclrtStream handle, size_t count, const Work& work) noexcept {
  Streams::Pin stream;
  if (const aclError code = find_stream(function, handle, &stream)) return code;
  if (count == 0) return ACL_SUCCESS;
  return report_enqueue(function, submit(stream, count <= kInlineBytes, [work]() noexcept -> aclError {
                          work();
                          return ACL_SUCCESS;
                        }));
}

// Queued work may still write what a synchronous call is about to read.
void wait_for_streams() noexcept {
  if (const auto context = contexts.acquire(current_context())) drain(*context);
}

aclError malloc_device(const char* function, void** memory, size_t size, aclrtMemMallocPolicy policy) {
  if (const aclError code = check_policy(function, policy)) return code;
  return malloc_checked(function, memory, size, MemoryKind::kDevice);
}

}  // namespace
}  // namespace mseloss::acl

using namespace mseloss::acl;

aclError aclrtMalloc(void** devPtr, size_t size, aclrtMemMallocPolicy policy) {
  return malloc_device(__func__, devPtr, size, policy);
}

aclError aclrtMallocAlign32(void** devPtr, size_t size, aclrtMemMallocPolicy policy) {
  return malloc_device(__func__, devPtr, size, policy);
}

aclError aclrtFree(void* devPtr) {
  return free_checked(__func__, devPtr, MemoryKind::kDevice, "aclrtMalloc");
}

aclError aclrtMallocHost(void** hostPtr, size_t size) {
  return malloc_checked(__func__, hostPtr, size, MemoryKind::kHost);
}

aclError aclrtFreeHost(void* hostPtr) {
  return free_checked(__func__, hostPtr, MemoryKind::kHost, "aclrtMallocHost");
}

aclError aclrtMemcpy(void* dst, size_t destMax, const void* src, size_t count, aclrtMemcpyKind kind) {
  if (const aclError code = check_copy(__func__, dst, destMax, src, count, kind)) return code;
  wait_for_streams();
  if (count != 0) std::memmove(dst, src, count);
  return ACL_SUCCESS;
}

aclError aclrtMemcpyAsync(void* dst, size_t destMax, const void* src, size_t count, aclrtMemcpyKind kind,
                          aclrtStream stream) {
  if (const aclError code = check_copy(__func__, dst, destMax, src, count, kind)) return code;
  return submit_bytes(__func__, stream, count, [=] { std::memmove(dst, src, count); });
}

aclError aclrtMemset(void* devPtr, size_t maxCount, int32_t value, size_t count) {
  if (const aclError code = check_fill(__func__, devPtr, maxCount, count)) return code;
  wait_for_streams();
  if (count != 0) std::memset(devPtr, value, count);
  return ACL_SUCCESS;
}

aclError aclrtMemsetAsync(void* devPtr, size_t maxCount, int32_t value, size_t count, aclrtStream stream) {
  if (const aclError code = check_fill(__func__, devPtr, maxCount, count)) return code;
  return submit_bytes(__func__, stream, count, [=] { std::memset(devPtr, value, count); });
}

aclError aclrtGetMemInfo(aclrtMemAttr attr, size_t* free, size_t* total) {
  const int value = static_cast<int>(attr);
  if (const aclError code = check_not_null(__func__, "free", free)) return code;
  if (const aclError code = check_not_null(__func__, "total", total)) return code;
  if (value < ACL_DDR_MEM || value > ACL_HBM_MEM_NORMAL) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: attr: expected 0 to 5, got %d", __func__, value);
  }
  if (const aclError code = check_context(__func__)) return code;
  *free = static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  *total = physical_memory();
  return ACL_SUCCESS;
}
