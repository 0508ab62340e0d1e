// Included before Highway: the targets we generate. SSSE3 adds nothing to SSE4 here; SVE's vectors cannot
// stand in arrays, and such machines run the NEON code.
#pragma once

#if defined(__x86_64__) || defined(__i386__)
#define HWY_DISABLED_TARGETS HWY_SSSE3
#elif defined(__aarch64__)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif

// For lambdas: flattened before the compiler looks for what can stay in registers.
#define MSELOSS_INLINE HWY_ATTR __attribute__((always_inline))
