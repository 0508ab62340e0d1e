// Memory for fresh results. Page faults and zeroing of new memory cost several times the arithmetic, so
// blocks from kPooled bytes on are backed by huge pages and recycled.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mseloss::python {

// One block of memory. It is either live (one owner, who will release it exactly once) or idle (the pool's,
// at most limit() bytes in all, least recently used blocks go back to the system first).
struct Block {
  void* data;       // aligned to 64 bytes
  size_t capacity;  // bytes reserved; below kPooled the block came from malloc
};

inline constexpr size_t kPooled = size_t{1} << 20;

// Null when memory is short. Contents are unspecified. acquire() and release() are thread-safe, need no GIL,
// may be called in a forked child and until the process ends.
Block* acquire(size_t bytes) noexcept;
void release(Block* block) noexcept;

struct PoolUsage {
  size_t live, idle, limit;  // bytes
  size_t live_blocks, idle_blocks;
  uint64_t mapped, reused;  // requests served by the system, by an idle block
};
PoolUsage pool_usage() noexcept;
// The default is an eighth of the memory this process may use, or MSELOSS_MEMORY_LIMIT bytes.
size_t pool_limit() noexcept;
void set_pool_limit(size_t bytes) noexcept;  // trims what is idle beyond it at once
size_t trim_pool() noexcept;                 // gives all idle blocks back; returns their bytes

}  // namespace mseloss::python
