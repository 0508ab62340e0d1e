// Checks of accesses to global memory.
#include <algorithm>

#include "model/core.h"

namespace ascend_model {
namespace {

std::string Range(const Region& region, uintptr_t address, uint64_t bytes) {
  const int64_t offset = static_cast<int64_t>(address - region.base);
  return "bytes [" + std::to_string(offset) + ", " + std::to_string(offset + static_cast<int64_t>(bytes)) +
         ") of " + region.name + ", which has " + std::to_string(region.bytes);
}

bool Inside(const Region& region, uintptr_t address, uint64_t bytes) {
  return address >= region.base && bytes <= region.bytes && address - region.base <= region.bytes - bytes;
}

// The tensor that the address most likely refers to, for the error message.
const Region& Nearest(const std::vector<Region>& regions, uintptr_t address) {
  const Region* best = &regions.front();
  for (const Region& region : regions) {
    if (address >= region.base && (address - region.base < address - best->base || address < best->base)) {
      best = &region;
    }
  }
  return *best;
}

}  // namespace

bool GlobalMemory::Contains(uintptr_t address) const {
  return std::any_of(regions.begin(), regions.end(),
                     [&](const Region& region) { return Inside(region, address, 1); });
}

void GlobalMemory::CheckRead(const char* call, uintptr_t address, uint64_t bytes, int64_t block) const {
  const bool found = std::any_of(regions.begin(), regions.end(), [&](const Region& region) {
    return !region.output && Inside(region, address, bytes);
  });
  if (!found) {
    throw Violation(9, "reads " + Range(Nearest(regions, address), address, bytes) +
                           ", outside every input (" + call + ", block " + std::to_string(block) + ")");
  }
}

void GlobalMemory::Write(const char* call, uintptr_t address, uint64_t bytes, int64_t block) {
  for (Region& region : regions) {
    if (!region.output || !Inside(region, address, bytes)) {
      continue;
    }
    const uint64_t begin = address - region.base;
    if (!region.written.empty() && region.written.back().block == block &&
        region.written.back().end == begin) {
      region.written.back().end += bytes;
    } else {
      region.written.push_back({begin, begin + bytes, block});
    }
    return;
  }
  throw Violation(9, "writes " + Range(Nearest(regions, address), address, bytes) +
                         ", outside every output (" + call + ", block " + std::to_string(block) + ")");
}

void GlobalMemory::CheckWritten(const std::vector<std::pair<uint64_t, uint64_t>>& expected) const {
  for (const Region& region : regions) {
    if (!region.output) {
      continue;
    }
    std::vector<Written> parts = region.written;
    std::sort(parts.begin(), parts.end(),
              [](const Written& a, const Written& b) { return a.begin < b.begin; });
    for (const auto& [line, block] : scalar_lines) {
      for (const Written& part : parts) {
        if (part.block != block && region.base + part.begin < line + 64 && line < region.base + part.end) {
          throw Violation(21, "blocks " + std::to_string(block) + " and " + std::to_string(part.block) +
                                  " write to one cache line of " + region.name +
                                  ", which a scalar unit writes back as a whole");
        }
      }
    }
    std::vector<std::pair<uint64_t, uint64_t>> covered;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (i > 0 && parts[i].begin < parts[i - 1].end) {
        throw Violation(10, "byte " + std::to_string(parts[i].begin) + " of " + region.name +
                                " is written by block " + std::to_string(parts[i - 1].block) +
                                " and by block " + std::to_string(parts[i].block));
      }
      if (!covered.empty() && covered.back().second == parts[i].begin) {
        covered.back().second = parts[i].end;
      } else {
        covered.emplace_back(parts[i].begin, parts[i].end);
      }
    }
    for (const auto& [begin, end] : expected) {
      const bool whole =
          begin == end || std::any_of(covered.begin(), covered.end(), [b = begin, e = end](auto& part) {
            return part.first <= b && part.second >= e;
          });
      if (!whole) {
        throw Violation(10, "bytes [" + std::to_string(begin) + ", " + std::to_string(end) + ") of " +
                                region.name + " are not all written");
      }
    }
  }
}

}  // namespace ascend_model
