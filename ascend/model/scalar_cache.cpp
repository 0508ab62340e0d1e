// The scalar unit's cache of global memory, which copies bypass: lines of 64 bytes, written back as a whole.
#include <algorithm>

#include "model/core.h"

namespace ascend_model {

// The line of the address, with every byte cached that belongs to a tensor.
Core::Line& Core::Fetch(uintptr_t address) {
  const uintptr_t base = address / kLine * kLine;
  Line& line = lines_[base];
  for (uintptr_t i = 0; i < kLine; ++i) {
    if (!line.cached[i] && memory_->Contains(base + i)) {
      line.cached[i] = true;
      line.data[i] = *reinterpret_cast<const uint8_t*>(base + i);
    }
  }
  return line;
}

void Core::CacheRead(uintptr_t address, void* value, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; ++i) {
    const uintptr_t at = (address + i) % kLine;
    const Line& line = Fetch(address + i);
    if (!line.dirty[at] && line.data[at] != *reinterpret_cast<const uint8_t*>(address + i)) {
      Fail(21, "reads a byte from the scalar unit's cache that a copy has changed in memory since");
    }
    static_cast<uint8_t*>(value)[i] = line.data[at];
  }
}

void Core::CacheWrite(uintptr_t address, const void* value, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; ++i) {
    const uintptr_t base = (address + i) / kLine * kLine;
    const auto copy = copied_out_.find(base);
    if (copy != copied_out_.end() && !Ordered(copy->second, kCopyOut)) {
      Fail(21, "writes to a cache line while PIPE_MTE3 may still be writing to its memory");
    }
    memory_->scalar_lines[base] = options_.block;
    Line& line = Fetch(address + i);
    line.dirty[address + i - base] = true;
    line.data[address + i - base] = static_cast<const uint8_t*>(value)[i];
  }
}

void Core::CacheClean(uintptr_t address) {
  const auto found = lines_.find(address / kLine * kLine);
  if (found == lines_.end()) {
    return;
  }
  auto& [base, line] = *found;
  const uintptr_t from = address - base;
  const auto dirty = [&line = line](uintptr_t begin, uintptr_t end) {
    return std::any_of(&line.dirty[begin], line.dirty.data() + end, [](bool byte) { return byte; });
  };
  const bool writes = dirty(from, kLine);
  for (uintptr_t i = 0; i < kLine && writes; ++i) {
    uint8_t* const memory = reinterpret_cast<uint8_t*>(base + i);
    if (line.dirty[i] && i >= from) {
      *memory = line.data[i];
      line.dirty[i] = false;
    } else if (line.cached[i] && !line.dirty[i] && line.data[i] != *memory) {
      Fail(21, "writes back a cache line whose memory a copy has changed since it was read");
    }
  }
  if (!dirty(0, from)) {
    lines_.erase(found);
  }
}

void Core::CopiedOut(uintptr_t address, uint64_t bytes) {
  const uintptr_t first = address / kLine * kLine, last = (address + bytes - 1) / kLine * kLine;
  for (const uintptr_t base : {first, last}) {
    copied_out_[base] = pipes_[kCopyOut].issued;
    const auto found = lines_.find(base);
    for (uintptr_t i = 0; found != lines_.end() && i < kLine; ++i) {
      if (found->second.dirty[i]) {
        Fail(21, "copies to the memory of a cache line that the scalar unit has written and not cleaned");
      }
    }
  }
}

void Core::CheckCacheIsClean() const {
  for (const auto& [base, line] : lines_) {
    for (const bool dirty : line.dirty) {
      if (dirty) {
        Fail(21, "bytes written by the scalar unit are still in its cache");
      }
    }
  }
}

}  // namespace ascend_model
