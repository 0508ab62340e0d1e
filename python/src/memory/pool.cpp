#include "memory/pool.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

namespace mseloss::python {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }

// Rounds a size up so that blocks can be reused for slightly different sizes: to a multiple of one eighth of
// the next lower power of two; from 2 MiB, to whole huge pages.
size_t capacity_for(size_t bytes) {
  if (bytes < kHugePage) return round_up(bytes, kHugePage / 8);
  size_t power = kHugePage;
  while (power <= bytes / 2) power *= 2;
  return round_up(bytes, std::max(kHugePage, power / 8));
}

size_t page_size() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

void* map(size_t capacity) noexcept {
  const bool huge = capacity >= kHugePage;
  const size_t reserved = capacity + (huge ? kHugePage - page_size() : 0);
  void* memory = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  if (!huge) return memory;
  char* begin = static_cast<char*>(memory);
  char* aligned = reinterpret_cast<char*>(round_up(reinterpret_cast<size_t>(begin), kHugePage));
  if (aligned != begin) munmap(begin, aligned - begin);
  if (char* end = aligned + capacity; end != begin + reserved) munmap(end, begin + reserved - end);
#ifdef MADV_HUGEPAGE
  madvise(aligned, capacity, MADV_HUGEPAGE);  // a hint; if the kernel refuses, small pages work too
#endif
  return aligned;
}

size_t default_limit() {
  if (size_t bytes; read_limit_variable(&bytes) && bytes != SIZE_MAX) return bytes;
  size_t memory = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * page_size();
  if (std::FILE* file = std::fopen("/sys/fs/cgroup/memory.max", "r")) {
    unsigned long long bytes;
    if (std::fscanf(file, "%llu", &bytes) == 1) memory = std::min<size_t>(memory, bytes);
    std::fclose(file);
  }
  return memory / 8;
}

struct Pool {
  std::mutex mutex;
  std::vector<Block*> idle;  // most recently released last
  PoolUsage usage{};

  Pool() { usage.limit = default_limit(); }

  // The most recently used block that fits and exceeds `capacity` by at most a quarter, or null.
  Block* take_idle(size_t capacity) {
    for (size_t i = idle.size(); i-- > 0;) {
      Block* block = idle[i];
      if (block->capacity < capacity || block->capacity / 5 * 4 > capacity) continue;
      idle.erase(idle.begin() + static_cast<ptrdiff_t>(i));
      usage.idle -= block->capacity;
      --usage.idle_blocks;
      return block;
    }
    return nullptr;
  }

  // Removes the least recently used blocks until at most `keep` idle bytes remain. The caller unmaps them,
  // after releasing the lock.
  std::vector<Block*> evict(size_t keep) {
    size_t count = 0;
    for (; count < idle.size() && usage.idle > keep; ++count) usage.idle -= idle[count]->capacity;
    std::vector<Block*> evicted(idle.begin(), idle.begin() + static_cast<ptrdiff_t>(count));
    idle.erase(idle.begin(), idle.begin() + static_cast<ptrdiff_t>(count));
    usage.idle_blocks -= count;
    return evicted;
  }
};

// Never destroyed: arrays may be freed after static destructors have run.
Pool& pool() {
  static Pool* const instance = [] {
    auto* created = new Pool;
    // Without these a child forked while another thread holds the lock would deadlock.
    pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });
    return created;
  }();
  return *instance;
}
// Not by the first call: a child forked meanwhile would wait for the construction to end.
[[maybe_unused]] const Pool& constructed = pool();

void unmap(Block* block) {
  munmap(block->data, block->capacity);
  delete block;
}

void unmap(const std::vector<Block*>& blocks) {
  for (Block* block : blocks) unmap(block);
}

Block* acquire_small(size_t bytes) noexcept {
  void* data = std::aligned_alloc(64, round_up(std::max<size_t>(bytes, 1), 64));
  Block* block = data == nullptr ? nullptr : new (std::nothrow) Block{data, bytes};
  if (block == nullptr) std::free(data);
  return block;
}

}  // namespace

bool read_limit_variable(size_t* bytes) noexcept {
  *bytes = SIZE_MAX;
  const char* text = std::getenv("MSELOSS_MEMORY_LIMIT");
  if (text == nullptr || *text == '\0') return true;
  size_t value = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  if (error != std::errc() || *end != '\0') return false;
  *bytes = value;
  return true;
}

Block* acquire(size_t bytes) noexcept try {
  if (bytes < kMinPooledBytes) return acquire_small(bytes);
  if (bytes > SIZE_MAX / 4) return nullptr;
  const size_t capacity = capacity_for(bytes);
  Pool& p = pool();
  {
    const std::lock_guard lock(p.mutex);
    if (Block* block = p.take_idle(capacity)) {
      ++p.usage.reused;
      ++p.usage.live_blocks;
      p.usage.live += block->capacity;
      return block;
    }
  }
  void* data = map(capacity);
  if (data == nullptr && trim_pool() > 0) data = map(capacity);
  if (data == nullptr) return nullptr;
  auto* block = new (std::nothrow) Block{data, capacity};
  if (block == nullptr) {
    munmap(data, capacity);
    return nullptr;
  }
  const std::lock_guard lock(p.mutex);
  ++p.usage.mapped;
  ++p.usage.live_blocks;
  p.usage.live += capacity;
  return block;
} catch (...) {
  return nullptr;
}

void release(Block* block) noexcept {
  if (block->capacity < kMinPooledBytes) {
    std::free(block->data);
    delete block;
    return;
  }
  Pool& p = pool();
  std::vector<Block*> evicted;
  bool kept = false;
  try {
    const std::lock_guard lock(p.mutex);
    p.usage.live -= block->capacity;
    --p.usage.live_blocks;
    if (block->capacity <= p.usage.limit) {
      evicted = p.evict(p.usage.limit - block->capacity);
      p.idle.push_back(block);
      kept = true;
      p.usage.idle += block->capacity;
      ++p.usage.idle_blocks;
    }
  } catch (...) {  // no memory for the list of idle blocks: unmap the block
  }
  unmap(evicted);
  if (!kept) unmap(block);
}

PoolUsage pool_usage() noexcept {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  return p.usage;
}

size_t pool_limit() noexcept { return pool_usage().limit; }

void set_pool_limit(size_t bytes) noexcept {
  Pool& p = pool();
  std::vector<Block*> evicted;
  {
    const std::lock_guard lock(p.mutex);
    p.usage.limit = bytes;
    evicted = p.evict(bytes);
  }
  unmap(evicted);
}

size_t trim_pool() noexcept {
  Pool& p = pool();
  std::vector<Block*> evicted;
  size_t bytes;
  {
    const std::lock_guard lock(p.mutex);
    bytes = p.usage.idle;
    evicted = p.evict(0);
  }
  unmap(evicted);
  return bytes;
}

}  // namespace mseloss::python
