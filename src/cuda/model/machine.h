// A functional model of a CUDA device, strict where the hardware only happens to work: threads of a block are
// fibers, blocks interleave by a seed, and every access to memory is checked. It knows nothing of the
// operator.
//
// - Global memory: only the operands' own elements and live scratch memory, at aligned addresses; an output
//   element is written once; what another block wrote in this launch is visible only after its fence, an
//   atomic operation on both sides, a fence of the reader, and barriers where other threads of the blocks
//   take part.
// - Shared memory: no read before a write, no access to an element that another thread accesses between the
//   same two barriers, unless both read or both are atomic.
// - A barrier that some thread of the block does not reach is an error.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/model/fibers.h"

namespace mseloss::cuda::model {

struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The order of a block's writes that another block has acquired: those before barrier `epoch` by any thread,
// and those of `thread` up to `sequence`.
struct Released {
  uint32_t epoch = 0;
  int thread = -1;
  uint32_t sequence = 0;
};
using Clock = std::map<int64_t, Released>;  // by block

struct Writer {
  uint32_t launch = 0;  // 0: none
  int64_t block = -1;   // -1: the host
  int thread = -1;
  uint32_t epoch = 0;
  uint32_t sequence = 0;
};

enum class Access { kRead, kCoherentRead, kWrite, kAtomic };

// An operand or a scratch allocation.
struct Region {
  std::string name;
  uintptr_t base = 0;
  uint64_t bytes = 0;
  bool writable = false;
  bool optional = false;    // need not be written
  bool rewritable = false;  // a result that the exact sweep may replace
  bool scratch = false;
  // Operands: 0 for bytes between the elements, 1 for those of elements, 2 + launch when written. Empty for
  // operands too large for it.
  std::vector<uint32_t> map;
  struct Word {
    Writer plain;
    std::vector<Writer> atomics;  // of one launch, the last of each thread
    bool written = false;
  };
  std::vector<Word> words;  // scratch: per `unit` bytes
  size_t unit = 4;
};

struct Settings {
  uint64_t seed = 1;         // order of blocks and threads
  int multiprocessors = 3;   // few, so that small operands have several blocks and blocks several tiles
  int resident_blocks = 2;   // that interleave
  int64_t min_terms = 1;     // DeviceInfo::min_terms
  int64_t max_blocks = 4;    // DeviceInfo::max_blocks
  int64_t only_blocks = 0;   // of a launch: the first, last and some others; 0: all
  size_t scratch_unit = 4;   // bytes that one thread owns; 1 if scratch memory has elements of any dtype
  int fail_allocation = -1;  // this allocation of the call fails
};

class Machine {
 public:
  static Machine& current();  // of the calling thread

  Settings settings;
  std::vector<Region> regions;

  // Runs kernel(arguments) on a grid; returns the first violation, or an empty string.
  std::string run(uint32_t grid_x, uint32_t grid_y, int threads, void (*kernel)(const void*, const void*),
                  const void* function, const void* arguments);
  uint64_t launches() const { return launch_; }

  // What kernels do. Violations are exceptions within the fiber.
  void access(uintptr_t address, size_t bytes, size_t alignment, Access kind);
  void barrier();
  void fence();
  void after_atomic();  // another thread may run
  int declare_shared(const char* name, size_t element, int count, size_t alignment);
  void* shared_element(int array, int index, Access kind);
  void* own_shared(int array, int first, int count);

  void add_scratch(void* base, size_t bytes);
  void zero_scratch(void* base, size_t bytes);
  void mark_scratch(void* base, size_t bytes);  // as written by the host
  void remove_scratch(void* base);
  // Scratch allocations that are live.
  int live_scratch() const;

 private:
  struct Thread {
    int index;
    int fiber;
    bool waiting = false, done = false;
    uint32_t sequence = 0;
    Released released;
    bool has_released = false;
    Clock seen, acquired;
  };
  struct Cell {
    int16_t writer = -1, reader = -1;  // reader -2: several
    uint32_t write_epoch = 0, read_epoch = 0;
    bool atomic = false, valid = false;
  };
  struct Array {
    const char* name;
    size_t element, offset;
    std::vector<Cell> cells;
  };
  struct Block {
    int64_t id;
    uint32_t x, y;
    uint32_t epoch = 1;
    std::vector<Thread> threads;
    std::vector<int> ready;
    int waiting = 0, done = 0;
    std::vector<Array> arrays;
    std::vector<std::max_align_t> memory;
    size_t used = 0;
    Clock acquired;
  };

  void start_block(Block* block, int slot, int64_t id);
  void step(Block* block);
  void release_barrier(Block* block);
  static void thread_main(void* context);
  [[noreturn]] void fail(const std::string& text) const;
  void access_operand(uintptr_t address, size_t bytes, Access kind);
  void access_scratch(Region& region, uintptr_t address, size_t bytes, Access kind);
  bool ordered(const Writer& writer) const;
  void check_cell(const Array& array, int index, Cell& cell, Access kind);
  std::vector<int64_t> block_order(int64_t blocks);

  std::unique_ptr<Fibers> fibers_;
  std::vector<Block> blocks_;  // by slot
  std::mt19937_64 random_;
  uint32_t launch_ = 0;
  uint32_t grid_x_ = 0, grid_y_ = 0;
  int thread_count_ = 0;
  void (*kernel_)(const void*, const void*) = nullptr;
  const void* function_ = nullptr;
  const void* arguments_ = nullptr;
  Block* block_ = nullptr;
  Thread* thread_ = nullptr;
  std::string error_;
  bool out_of_memory_ = false;          // of the model itself
  std::map<uintptr_t, Clock> objects_;  // of atomic operations of this launch
};

// The machine that runs a kernel on the calling thread.
inline thread_local constinit Machine* running = nullptr;

}  // namespace mseloss::cuda::model
