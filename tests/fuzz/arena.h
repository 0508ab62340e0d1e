// Memory for operands: each arena lies between two inaccessible pages, so that an access one byte outside it
// ends the process. An operand at either end of an arena has the guard page as its neighbour.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/support/cases.h"

namespace fuzz {

class Arena {
 public:
  static constexpr int64_t kBytes = 512 << 10;

  Arena() {
    const int64_t page = sysconf(_SC_PAGESIZE);
    void* mapped = mmap(nullptr, kBytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) std::abort();
    begin_ = static_cast<char*>(mapped) + page;
    if (mprotect(begin_, kBytes, PROT_READ | PROT_WRITE) != 0) std::abort();
  }
  char* begin() const { return begin_; }
  char* end() const { return begin_ + kBytes; }
  bool contains(const char* low, const char* high) const { return begin() <= low && high <= end(); }

  // Forgets the previous case's window.
  void reset() { low_ = end(), high_ = begin(); }
  // Extends the window by the bytes [low, high) and a margin of canaries.
  void cover(char* low, char* high) {
    constexpr int64_t kMargin = 96;
    low_ = std::min(low_, low - std::min<int64_t>(kMargin, low - begin()));
    high_ = std::max(high_, high + std::min<int64_t>(kMargin, end() - high));
  }
  void randomize(cases::Random& random) {
    for (char* p = low_; p < high_; p += 8) {
      const uint64_t bits = random.bits();
      std::memcpy(p, &bits, static_cast<size_t>(std::min<int64_t>(8, high_ - p)));
    }
  }
  void remember() { copy_.assign(low_, std::max(low_, high_)); }
  // A byte of the window in the remembered state.
  char* remembered(const char* p) { return copy_.data() + (p - low_); }
  // The first byte that differs from the remembered state; null if none does.
  const char* difference() const {
    if (copy_.empty() || std::memcmp(low_, copy_.data(), copy_.size()) == 0) return nullptr;
    return std::mismatch(copy_.begin(), copy_.end(), low_).second;
  }

 private:
  char* begin_;
  char *low_ = nullptr, *high_ = nullptr;
  std::vector<char> copy_;
};

}  // namespace fuzz
