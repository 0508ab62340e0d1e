// The targets that Highway generates; include this before Highway. SSSE3 is not faster than SSE4 here. SVE
// vectors cannot be array elements, so processors with SVE run the NEON code. MSELOSS_DISABLED_TARGETS (a
// CMake option) adds to the list, for builds that must compile quickly.
#pragma once

#ifndef MSELOSS_DISABLED_TARGETS
#define MSELOSS_DISABLED_TARGETS 0
#endif
#if defined(__x86_64__) || defined(__i386__)
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | MSELOSS_DISABLED_TARGETS)
#elif defined(__aarch64__)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | MSELOSS_DISABLED_TARGETS)
#endif

// For lambdas: inlined before the compiler decides which values stay in registers.
#define MSELOSS_INLINE HWY_ATTR __attribute__((always_inline))
