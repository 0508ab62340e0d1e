// What the harnesses share: the fuzzer's bytes as choices, the report of a finding, and counts of what ran.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>

namespace fuzz {

// After the last byte every choice is 0, so shorter inputs are simpler cases.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : next_(data), end_(data + size) {
    seed_ = 0xcbf29ce484222325;  // FNV-1a
    for (const uint8_t* p = data; p != end_; ++p) seed_ = (seed_ ^ *p) * 0x100000001b3;
  }
  bool empty() const { return next_ == end_; }
  uint8_t byte() { return next_ == end_ ? 0 : *next_++; }
  int8_t signed_byte() { return static_cast<int8_t>(byte()); }
  int below(int n) { return byte() % n; }  // n <= 256
  bool rarely() { return byte() >= 250; }
  uint64_t word() {
    uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits = bits << 8 | byte();
    return bits;
  }
  template <class C>
  auto pick(const C& choices) {
    return choices[static_cast<size_t>(below(static_cast<int>(std::size(choices))))];
  }
  // Depends on every byte: for values of elements, which bytes need not spell out.
  uint64_t seed() const { return seed_; }

 private:
  const uint8_t* next_;
  const uint8_t* end_;
  uint64_t seed_;
};

// Ends the process, so that libFuzzer keeps the input.
#define FUZZ_REQUIRE(condition, ...)                                           \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "\n%s:%d: %s\n  ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                       \
      std::fputc('\n', stderr);                                                \
      std::abort();                                                            \
    }                                                                          \
  } while (0)

// Named totals, printed when the process ends.
template <int kCount>
class Tally {
 public:
  explicit Tally(const char* const (&names)[kCount]) : names_(names) {}
  ~Tally() {
    std::fprintf(stderr, "TALLY");
    for (int i = 0; i < kCount; ++i)
      std::fprintf(stderr, " %s=%llu", names_[i], static_cast<unsigned long long>(counts_[i]));
    std::fputc('\n', stderr);
  }
  uint64_t& operator[](int i) { return counts_[i]; }

 private:
  const char* const (&names_)[kCount];
  uint64_t counts_[kCount] = {};
};

}  // namespace fuzz
