#include "cuda/model/machine.h"

#include <algorithm>
#include <cstddef>
#include <new>

#include "cuda/model/language.h"

namespace mseloss::cuda::model {
namespace {

constexpr int kPoison = 0xff;  // a NaN in every dtype
constexpr int kSharedBytes = 48 * 1024;

void merge(Clock* into, const Clock& from) {
  for (const auto& [block, released] : from) {
    Released& known = (*into)[block];
    if (released.epoch > known.epoch ||
        (released.epoch == known.epoch && released.sequence > known.sequence)) {
      known = released;
    }
  }
}

}  // namespace

Machine& Machine::current() {
  static thread_local Machine machine;
  return machine;
}

void Machine::fail(const std::string& text) const {
  throw Violation(text + " (launch " + std::to_string(launch_) + ", block (" + std::to_string(block_->x) +
                  ", " + std::to_string(block_->y) + "), thread " + std::to_string(thread_->index) + ")");
}

// ---- blocks, threads, schedule

void Machine::thread_main(void* context) {
  auto* const machine = static_cast<Machine*>(context);
  try {
    machine->kernel_(machine->function_, machine->arguments_);
  } catch (const Violation& violation) {
    if (machine->error_.empty()) machine->error_ = violation.what();
  } catch (const std::bad_alloc&) {
    machine->out_of_memory_ = true;
  }
}

void Machine::start_block(Block* block, int slot, int64_t id) {
  block->id = id;
  block->x = static_cast<uint32_t>(id % grid_x_);
  block->y = static_cast<uint32_t>(id / grid_x_);
  block->epoch = 1;
  block->waiting = block->done = 0;
  block->arrays.clear();
  block->memory.resize(kSharedBytes / sizeof(std::max_align_t));  // reads before a write are errors
  block->used = 0;
  block->acquired.clear();
  block->threads.resize(static_cast<size_t>(thread_count_));
  block->ready.clear();
  for (int i = 0; i < thread_count_; ++i) {
    Thread& thread = block->threads[static_cast<size_t>(i)];
    thread.index = i;
    thread.waiting = thread.done = thread.has_released = false;
    thread.sequence = 0;
    thread.seen.clear();
    thread.acquired.clear();
    thread.fiber = slot * thread_count_ + i;
    fibers_->start(thread.fiber, &Machine::thread_main, this);
    block->ready.push_back(i);
  }
}

// Runs a random ready thread of the block until it yields.
void Machine::step(Block* block) {
  const size_t choice = random_() % block->ready.size();
  Thread& thread = block->threads[static_cast<size_t>(block->ready[choice])];
  block_ = block;
  thread_ = &thread;
  threadIdx = {static_cast<unsigned>(thread.index), 0, 0};
  blockIdx = {block->x, block->y, 0};
  if (!fibers_->resume(thread.fiber)) {
    thread.done = true;
    ++block->done;
  }
  if (thread.waiting || thread.done) {
    block->ready[choice] = block->ready.back();
    block->ready.pop_back();
  }
  if (!error_.empty() || out_of_memory_ || !block->ready.empty() || block->waiting == 0) return;
  if (block->done != 0) {
    const auto waiting =
        std::find_if(block->threads.begin(), block->threads.end(), [](const Thread& t) { return t.waiting; });
    error_ = "divergent barrier: thread " + std::to_string(waiting->index) + " waits for " +
             std::to_string(block->done) + " threads that have returned (block (" + std::to_string(block->x) +
             ", " + std::to_string(block->y) + "))";
    return;
  }
  release_barrier(block);
}

void Machine::release_barrier(Block* block) {
  for (Thread& thread : block->threads) {
    if (!thread.acquired.empty()) merge(&block->acquired, thread.acquired);
    thread.acquired.clear();
    thread.waiting = false;
    block->ready.push_back(thread.index);
  }
  block->waiting = 0;
  ++block->epoch;
}

std::vector<int64_t> Machine::block_order(int64_t blocks) {
  std::vector<int64_t> order;
  if (settings.only_blocks == 0 || blocks <= settings.only_blocks) {
    for (int64_t i = 0; i < blocks; ++i) order.push_back(i);
  } else {
    order = {0, blocks - 1};
    while (static_cast<int64_t>(order.size()) < settings.only_blocks) {
      const auto block = static_cast<int64_t>(random_() % static_cast<uint64_t>(blocks));
      if (std::find(order.begin(), order.end(), block) == order.end()) order.push_back(block);
    }
  }
  std::shuffle(order.begin(), order.end(), random_);
  return order;
}

std::string Machine::run(uint32_t grid_x, uint32_t grid_y, int threads,
                         void (*kernel)(const void*, const void*), const void* function,
                         const void* arguments) {
  ++launch_;
  running = this;
  random_.seed(settings.seed + launch_);
  grid_x_ = grid_x;
  grid_y_ = grid_y;
  gridDim = {grid_x, grid_y, 1};
  thread_count_ = threads;
  kernel_ = kernel;
  function_ = function;
  arguments_ = arguments;
  error_.clear();
  out_of_memory_ = false;
  objects_.clear();
  if (grid_x == 0 || grid_y == 0 || grid_x > 0x7fff'ffff || grid_y > 65535) return "the grid is out of range";
  const int slots = settings.resident_blocks;
  if (fibers_ == nullptr) fibers_ = std::make_unique<Fibers>(slots * threads);
  std::vector<int64_t> order = block_order(int64_t{grid_x} * grid_y);
  blocks_.resize(static_cast<size_t>(slots));
  std::vector<int> resident;  // slots
  for (int slot = 0; slot < slots && !order.empty(); ++slot, order.pop_back()) {
    start_block(&blocks_[static_cast<size_t>(slot)], slot, order.back());
    resident.push_back(slot);
  }
  while (error_.empty() && !out_of_memory_ && !resident.empty()) {
    const size_t choice = random_() % resident.size();
    const int slot = resident[choice];
    Block& block = blocks_[static_cast<size_t>(slot)];
    for (int i = 0; i < 64 && error_.empty() && !out_of_memory_ && !block.ready.empty(); ++i) step(&block);
    if (block.done != thread_count_) continue;
    if (order.empty()) {
      resident.erase(resident.begin() + static_cast<int64_t>(choice));
    } else {
      start_block(&block, slot, order.back());
      order.pop_back();
    }
  }
  block_ = nullptr;
  thread_ = nullptr;
  if (out_of_memory_) throw std::bad_alloc();
  return error_;
}

void Machine::barrier() {
  thread_->waiting = true;
  ++block_->waiting;
  fibers_->yield();
}

void Machine::after_atomic() { fibers_->yield(); }

// ---- order between blocks

void Machine::fence() {
  thread_->released = {block_->epoch, thread_->index, thread_->sequence};
  thread_->has_released = true;
  merge(&thread_->acquired, thread_->seen);
  thread_->seen.clear();
}

bool Machine::ordered(const Writer& writer) const {
  if (writer.launch != launch_ || writer.block < 0) return true;  // an earlier launch or the host
  if (writer.block == block_->id) return writer.thread == thread_->index || writer.epoch < block_->epoch;
  for (const Clock* clock : {&block_->acquired, &thread_->acquired}) {
    const auto known = clock->find(writer.block);
    if (known == clock->end()) continue;
    const Released& released = known->second;
    if (writer.epoch < released.epoch) return true;
    if (writer.thread == released.thread && writer.sequence <= released.sequence) return true;
  }
  return false;
}

// ---- global memory

void Machine::access(uintptr_t address, size_t bytes, size_t alignment, Access kind) {
  const auto what = [&] {
    return std::string(kind == Access::kWrite    ? "writes "
                       : kind == Access::kAtomic ? "updates "
                                                 : "reads ") +
           std::to_string(bytes) + " bytes";
  };
  if (address % alignment != 0)
    fail(what() + " at an address that is not a multiple of " + std::to_string(alignment));
  ++thread_->sequence;
  for (Region& region : regions) {
    if (!region.scratch || address < region.base || address + bytes > region.base + region.bytes) continue;
    return access_scratch(region, address, bytes, kind);
  }
  if (kind == Access::kAtomic) fail(what() + " of an operand");
  access_operand(address, bytes, kind);
}

void Machine::access_operand(uintptr_t address, size_t bytes, Access kind) {
  const bool write = kind == Access::kWrite;
  const std::string_view what = write ? "writes" : "reads";
  bool inside = false;
  for (Region& region : regions) {
    if (region.scratch || address < region.base || address + bytes > region.base + region.bytes) continue;
    const size_t first = address - region.base;
    if (region.map.empty()) {  // large
      if (write && !region.writable) continue;
      return;
    }
    bool own = true;
    for (size_t i = 0; i < bytes; ++i) own = own && region.map[first + i] != 0;
    if (!own) continue;
    for (size_t i = 0; i < bytes && region.writable; ++i) {
      uint32_t& mark = region.map[first + i];
      if (!write && mark == 2 + launch_)
        fail("reads an element of " + region.name + " that this launch has written");
      if (!write) continue;
      if (mark != 1 && !(region.rewritable && mark != 2 + launch_)) {
        fail("writes an element of " + region.name + " a second time");
      }
      mark = 2 + launch_;
    }
    if (write && !region.writable) continue;
    inside = true;
  }
  if (inside) return;
  std::string nearest = "no operand";
  for (const Region& region : regions) {
    if (address >= region.base && address < region.base + region.bytes) nearest = region.name;
  }
  fail(std::string(what) + " " + std::to_string(bytes) + " bytes outside the elements of every operand" +
       (write ? " that may be written" : "") + ", in the span of " + nearest);
}

void Machine::access_scratch(Region& region, uintptr_t address, size_t bytes, Access kind) {
  const Writer now{launch_, block_->id, thread_->index, block_->epoch, thread_->sequence};
  const size_t begin = address - region.base, first = begin / region.unit;
  const size_t count = (begin + bytes + region.unit - 1) / region.unit - first;
  for (size_t i = first; i < first + count; ++i) {
    Region::Word& word = region.words[i];
    if (kind != Access::kWrite && !word.written) fail("reads scratch memory that was not written");
    if (!ordered(word.plain)) {
      fail("accesses scratch memory that block " + std::to_string(word.plain.block) +
           " writes without an order");
    }
    if (!word.atomics.empty() && word.atomics.front().launch != launch_) word.atomics.clear();
    if (kind == Access::kAtomic) {
      const auto same = [&](const Writer& w) { return w.block == now.block && w.thread == now.thread; };
      const auto known = std::find_if(word.atomics.begin(), word.atomics.end(), same);
      known == word.atomics.end() ? word.atomics.push_back(now) : void(*known = now);
      continue;
    }
    for (const Writer& writer : word.atomics) {
      if (!ordered(writer)) {
        fail("accesses scratch memory that block " + std::to_string(writer.block) +
             " updates without an order");
      }
    }
    if (kind == Access::kRead && word.plain.launch == launch_ && word.plain.block != block_->id) {
      fail("reads what another block wrote through a cache that is not coherent");
    }
    if (kind == Access::kWrite) {
      word.plain = now;
      word.atomics.clear();
      word.written = true;
    }
  }
  if (kind != Access::kAtomic) return;
  Clock& object = objects_[address];
  merge(&thread_->seen, object);
  if (thread_->has_released) merge(&object, {{block_->id, thread_->released}});
}

void Machine::add_scratch(void* base, size_t bytes) {
  Region region;
  region.name = "scratch";
  region.base = reinterpret_cast<uintptr_t>(base);
  region.bytes = bytes;
  region.writable = region.scratch = true;
  region.unit = settings.scratch_unit;
  region.words.resize((bytes + region.unit - 1) / region.unit);
  std::memset(base, kPoison, bytes);
  regions.push_back(std::move(region));
}

void Machine::zero_scratch(void* base, size_t bytes) {
  std::memset(base, 0, bytes);
  mark_scratch(base, bytes);
}

void Machine::mark_scratch(void* base, size_t bytes) {
  for (Region& region : regions) {
    if (!region.scratch || region.base != reinterpret_cast<uintptr_t>(base)) continue;
    for (size_t i = 0; i < (bytes + region.unit - 1) / region.unit; ++i) region.words[i].written = true;
  }
}

void Machine::remove_scratch(void* base) {
  std::erase_if(regions, [&](const Region& region) {
    return region.scratch && region.base == reinterpret_cast<uintptr_t>(base);
  });
}

int Machine::live_scratch() const {
  return static_cast<int>(std::count_if(regions.begin(), regions.end(), [](auto& r) { return r.scratch; }));
}

// ---- shared memory

int Machine::declare_shared(const char* name, size_t element, int count, size_t alignment) {
  std::vector<Array>& arrays = block_->arrays;
  for (size_t i = 0; i < arrays.size(); ++i) {
    if (arrays[i].name == name) return static_cast<int>(i);
  }
  const size_t offset = (block_->used + alignment - 1) / alignment * alignment;
  block_->used = offset + element * static_cast<size_t>(count);
  if (block_->used > kSharedBytes) fail("declares more than 48 KiB of shared memory");
  arrays.push_back({name, element, offset, std::vector<Cell>(static_cast<size_t>(count))});
  return static_cast<int>(arrays.size() - 1);
}

void Machine::check_cell(const Array& array, int index, Cell& cell, Access kind) {
  const auto me = static_cast<int16_t>(thread_->index);
  const uint32_t now = block_->epoch;
  const auto race = [&](const char* what, int other) {
    fail("race: " + std::string(what) + " " + array.name + "[" + std::to_string(index) + "], which thread " +
         std::to_string(other) + " accesses between the same barriers");
  };
  const bool written = cell.write_epoch == now && cell.writer != me;
  const bool read = cell.read_epoch == now && cell.reader != me;
  if (kind == Access::kRead) {
    if (!cell.valid)
      fail("reads " + std::string(array.name) + "[" + std::to_string(index) + "], which was not written");
    if (written) race("reads", cell.writer);
    cell.reader = cell.read_epoch == now && cell.reader != me ? -2 : me;
    cell.read_epoch = now;
    return;
  }
  const bool atomic = kind == Access::kAtomic;
  if (atomic && !cell.valid) fail("updates " + std::string(array.name) + ", which was not written");
  if (written && !(atomic && cell.atomic)) race("writes", cell.writer);
  if (read) race("writes", cell.reader);
  // Several atomic writers count as one that is nobody.
  cell.writer = written ? static_cast<int16_t>(-2) : me;
  cell.write_epoch = now;
  cell.atomic = atomic;
  cell.valid = true;
}

void* Machine::shared_element(int array, int index, Access kind) {
  Array& a = block_->arrays[static_cast<size_t>(array)];
  if (index < 0 || static_cast<size_t>(index) >= a.cells.size()) {
    fail("accesses " + std::string(a.name) + "[" + std::to_string(index) + "], outside the array");
  }
  check_cell(a, index, a.cells[static_cast<size_t>(index)], kind);
  return reinterpret_cast<char*>(block_->memory.data()) + a.offset + static_cast<size_t>(index) * a.element;
}

void* Machine::own_shared(int array, int first, int count) {
  for (int i = first; i < first + count; ++i) shared_element(array, i, Access::kWrite);
  return shared_element(array, first, Access::kWrite);
}

}  // namespace mseloss::cuda::model
