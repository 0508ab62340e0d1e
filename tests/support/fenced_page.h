// A page of memory between two inaccessible pages, beside which a read past an operand ends the process.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace cases {

class FencedPage {
 public:
  FencedPage() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    base_ = static_cast<char*>(mmap(nullptr, 3 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(static_cast<void*>(base_), MAP_FAILED);
    EXPECT_EQ(mprotect(base_ + page_, page_, PROT_READ | PROT_WRITE), 0);
  }
  ~FencedPage() { munmap(base_, 3 * page_); }
  char* ending_at_fence(size_t bytes) { return base_ + 2 * page_ - bytes; }
  char* starting_at_fence() { return base_ + page_; }

 private:
  size_t page_;
  char* base_;
};

}  // namespace cases
