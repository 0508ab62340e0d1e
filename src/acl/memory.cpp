// Memory, copies and fills. Device memory is host memory, so every kind of copy is the same one.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "acl/runtime.h"

namespace mseloss::acl {
namespace {

constexpr size_t kAlignment = 64;         // a cache line, and the widest vector
constexpr size_t kHugePage = 2u << 20;    // bytes; smaller blocks would only waste one
constexpr size_t kInlineBytes = 1 << 18;  // copies at or below take less than waking a worker

enum class Place : uint8_t { kDevice, kHost };

size_t physical_memory() noexcept {
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Which addresses are ours to free. Keys are complemented, so that a leak detector does not take this table
// for a user of the memory. Leaked on purpose: blocks may be freed during exit.
struct Registry {
  std::mutex mutex;
  std::unordered_map<uintptr_t, Place> blocks;
  static uintptr_t key(void* pointer) { return ~reinterpret_cast<uintptr_t>(pointer); }
};
Registry& registry() {
  static Registry& the = *new Registry;
  return the;
}

void* allocate(size_t size, Place place) noexcept {
  if (size > physical_memory()) return nullptr;
  void* pointer = nullptr;
  const bool large = size >= kHugePage;
  if (posix_memalign(&pointer, large ? kHugePage : kAlignment, size) != 0) return nullptr;
  if (large) madvise(pointer, size, MADV_HUGEPAGE);  // advice: on failure ordinary pages serve
  try {
    const std::lock_guard lock(registry().mutex);
    registry().blocks.emplace(Registry::key(pointer), place);
    return pointer;
  } catch (...) {
    std::free(pointer);
    return nullptr;
  }
}

bool release(void* pointer, Place place) noexcept {
  try {
    const std::lock_guard lock(registry().mutex);
    auto& blocks = registry().blocks;
    const auto block = blocks.find(Registry::key(pointer));
    if (block == blocks.end() || block->second != place) return false;
    blocks.erase(block);
  } catch (...) {
    return false;
  }
  std::free(pointer);
  return true;
}

aclError malloc_checked(const char* function, void** pointer, size_t size, Place place) noexcept {
  if (pointer == nullptr) return fail(ACL_ERROR_INVALID_PARAM, "%s: pointer: got null", function);
  if (size == 0) return fail(ACL_ERROR_INVALID_PARAM, "%s: size: expected at least 1 byte, got 0", function);
  if (const aclError code = need_context(function); code != ACL_SUCCESS) return code;
  void* memory = allocate(size, place);
  if (memory == nullptr) {
    return fail(ACL_ERROR_RT_MEMORY_ALLOCATION, "%s: out of memory for %zu bytes", function, size);
  }
  *pointer = memory;
  return ACL_SUCCESS;
}

aclError free_checked(const char* function, void* pointer, Place place, const char* source) noexcept {
  if (pointer == nullptr) return fail(ACL_ERROR_INVALID_PARAM, "%s: pointer: got null", function);
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
  if (count != 0 && (dst == nullptr || src == nullptr)) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: %s: got null", function, dst == nullptr ? "dst" : "src");
  }
  if (count > room) {
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: count: expected at most destMax, %zu bytes, got %zu",
                function, room, count);
  }
  return need_context(function);
}

aclError check_fill(const char* function, const void* pointer, size_t room, size_t count) noexcept {
  if (count != 0 && pointer == nullptr) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: devPtr: got null", function);
  }
  if (count > room) {
    return fail(ACL_ERROR_RT_PARAM_INVALID, "%s: count: expected at most maxCount, %zu bytes, got %zu",
                function, room, count);
  }
  return need_context(function);
}

aclError submitted(const char* function, aclError code) noexcept {
  return code == ACL_SUCCESS ? code : fail(code, "%s: the stream could not take the work", function);
}

// What a synchronous call reads may still be on its way in one of the context's streams.
void wait_for_streams() noexcept {
  if (const auto context = contexts.acquire(current_context())) drain(*context);
}

}  // namespace
}  // namespace mseloss::acl

using namespace mseloss::acl;

aclError aclrtMalloc(void** devPtr, size_t size, aclrtMemMallocPolicy policy) {
  if (const aclError code = check_policy(__func__, policy); code != ACL_SUCCESS) return code;
  return malloc_checked(__func__, devPtr, size, Place::kDevice);
}

aclError aclrtMallocAlign32(void** devPtr, size_t size, aclrtMemMallocPolicy policy) {
  if (const aclError code = check_policy(__func__, policy); code != ACL_SUCCESS) return code;
  return malloc_checked(__func__, devPtr, size, Place::kDevice);
}

aclError aclrtFree(void* devPtr) { return free_checked(__func__, devPtr, Place::kDevice, "aclrtMalloc"); }

aclError aclrtMallocHost(void** hostPtr, size_t size) {
  return malloc_checked(__func__, hostPtr, size, Place::kHost);
}

aclError aclrtFreeHost(void* hostPtr) {
  return free_checked(__func__, hostPtr, Place::kHost, "aclrtMallocHost");
}

aclError aclrtMemcpy(void* dst, size_t destMax, const void* src, size_t count, aclrtMemcpyKind kind) {
  if (const aclError code = check_copy(__func__, dst, destMax, src, count, kind); code != ACL_SUCCESS) {
    return code;
  }
  wait_for_streams();
  if (count != 0) std::memmove(dst, src, count);
  return ACL_SUCCESS;
}

aclError aclrtMemcpyAsync(void* dst, size_t destMax, const void* src, size_t count, aclrtMemcpyKind kind,
                          aclrtStream stream) {
  if (const aclError code = check_copy(__func__, dst, destMax, src, count, kind); code != ACL_SUCCESS) {
    return code;
  }
  Streams::Pin pin;
  if (const aclError code = find_stream(__func__, stream, &pin); code != ACL_SUCCESS) return code;
  if (count == 0) return ACL_SUCCESS;
  return submitted(__func__, submit(pin, count <= kInlineBytes, [=]() noexcept -> aclError {
                     std::memmove(dst, src, count);
                     return ACL_SUCCESS;
                   }));
}

aclError aclrtMemset(void* devPtr, size_t maxCount, int32_t value, size_t count) {
  if (const aclError code = check_fill(__func__, devPtr, maxCount, count); code != ACL_SUCCESS) return code;
  wait_for_streams();
  if (count != 0) std::memset(devPtr, value, count);
  return ACL_SUCCESS;
}

aclError aclrtMemsetAsync(void* devPtr, size_t maxCount, int32_t value, size_t count, aclrtStream stream) {
  if (const aclError code = check_fill(__func__, devPtr, maxCount, count); code != ACL_SUCCESS) return code;
  Streams::Pin pin;
  if (const aclError code = find_stream(__func__, stream, &pin); code != ACL_SUCCESS) return code;
  if (count == 0) return ACL_SUCCESS;
  return submitted(__func__, submit(pin, count <= kInlineBytes, [=]() noexcept -> aclError {
                     std::memset(devPtr, value, count);
                     return ACL_SUCCESS;
                   }));
}

aclError aclrtGetMemInfo(aclrtMemAttr attr, size_t* free, size_t* total) {
  const int value = static_cast<int>(attr);
  if (free == nullptr || total == nullptr) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: %s: got null", __func__, free == nullptr ? "free" : "total");
  }
  if (value < ACL_DDR_MEM || value > ACL_HBM_MEM_NORMAL) {
    return fail(ACL_ERROR_INVALID_PARAM, "%s: attr: expected 0 to 5, got %d", __func__, value);
  }
  if (const aclError code = need_context(__func__); code != ACL_SUCCESS) return code;
  *free = static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  *total = physical_memory();
  return ACL_SUCCESS;
}
