// Measures the stack that a call uses, on a thread whose stack is painted before.
#pragma once

#include <gtest/gtest.h>
#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace stack {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
inline constexpr bool kMeasured = false;  // frames of other sizes
#else
inline constexpr bool kMeasured = true;
#endif

inline constexpr size_t kLimit = 32 << 10;   // bytes, as documented in docs/operator.md
inline constexpr size_t kStack = 256 << 10;  // of the thread that measures
inline constexpr unsigned char kPaint = 0xA5;

struct Measurement {
  void (*call)(void*);
  void* context;
  const unsigned char* top = nullptr;
};

// Bytes of stack below the caller's frame that call() touches.
template <class Call>
size_t used_by(Call call) {
  std::vector<unsigned char> stack(kStack + 4096, kPaint);
  auto* base =
      reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(stack.data()) + 4095) / 4096 * 4096);
  Measurement measurement{[](void* context) { (*static_cast<Call*>(context))(); }, &call};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  EXPECT_EQ(pthread_attr_setstack(&attributes, base, kStack), 0);
  pthread_t thread;
  EXPECT_EQ(pthread_create(
                &thread, &attributes,
                [](void* argument) -> void* {
                  auto& m = *static_cast<Measurement*>(argument);
                  unsigned char here = 0;
                  m.top = &here;
                  m.call(m.context);
                  return nullptr;
                },
                &measurement),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  const unsigned char* lowest = base;
  while (*lowest == kPaint) ++lowest;
  return static_cast<size_t>(measurement.top - lowest);
}

}  // namespace stack
