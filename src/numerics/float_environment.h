// For the duration of a scope: rounding to nearest even, subnormals not flushed. Restores the caller's
// settings. Device code has neither setting: there the class does nothing.
#pragma once

#include <cfenv>
#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace mseloss {

class FloatEnvironment {
 public:
#if defined(__CUDA_ARCH__)
  __device__ FloatEnvironment() {}
  __device__ ~FloatEnvironment() {}
#elif defined(__SSE__)
  FloatEnvironment() : saved_(_mm_getcsr()) {
    if ((saved_ & kControl) != kDefault) _mm_setcsr((saved_ & ~kControl) | kDefault);
  }
  ~FloatEnvironment() {
    if ((saved_ & kControl) != kDefault) _mm_setcsr(saved_);
  }

 private:
  // MXCSR without the exception flags: flush-to-zero, rounding, exception masks, denormals-are-zero.
  static constexpr unsigned kControl = 0xffc0;
  static constexpr unsigned kDefault = 0x1f80;  // all exceptions masked, everything else off
  unsigned saved_;
#else
  FloatEnvironment() {
    std::feholdexcept(&saved_);
    std::fesetround(FE_TONEAREST);
#if defined(__aarch64__)
    uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    asm volatile("msr fpcr, %0" : : "r"(control & ~(uint64_t{1} << 24)));
#endif
  }
  ~FloatEnvironment() { std::fesetenv(&saved_); }

 private:
  std::fenv_t saved_;
#endif

 public:
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;
};

}  // namespace mseloss
