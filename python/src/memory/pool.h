// Memory for new results. Page faults and the zeroing of new memory cost several times the arithmetic, so
// blocks of kMinPooledBytes or more are backed by huge pages and recycled.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mseloss::python {

// A block of memory is either live (its one owner releases it exactly once) or idle (kept by the pool for
// reuse). The pool keeps at most pool_limit() idle bytes and unmaps the least recently used blocks first.
struct Block {
  void* data;       // aligned to 64 bytes
  size_t capacity;  // bytes; a block of less than kMinPooledBytes comes from malloc and is never pooled
};

inline constexpr size_t kMinPooledBytes = size_t{1} << 20;

// Uninitialised memory, or null if the system has none. acquire() and release() are thread-safe, do not need
// the GIL, and may be called in a forked child and until the process ends.
Block* acquire(size_t bytes) noexcept;
void release(Block* block) noexcept;

struct PoolUsage {
  size_t live, idle, limit;  // bytes
  size_t live_blocks, idle_blocks;
  uint64_t mapped, reused;  // requests served by new memory, by an idle block
};
PoolUsage pool_usage() noexcept;
// In bytes. The default is the environment variable MSELOSS_MEMORY_LIMIT, or an eighth of the memory that the
// process may use.
size_t pool_limit() noexcept;
// Whether MSELOSS_MEMORY_LIMIT is unset, empty or a number of bytes. *bytes is that number, or SIZE_MAX.
bool read_limit_variable(size_t* bytes) noexcept;
void set_pool_limit(size_t bytes) noexcept;  // unmaps idle blocks beyond the new limit
size_t trim_pool() noexcept;                 // unmaps all idle blocks and returns their bytes

}  // namespace mseloss::python
