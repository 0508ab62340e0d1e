#include "bench/contenders/ceiling.h"

#include <algorithm>
#include <string_view>

namespace bench {

#if defined(__x86_64__)
extern const CeilingLoops kLoopsSse4, kLoopsAvx2, kLoopsAvx512;
#else
extern const CeilingLoops kLoopsNative;
#endif

const CeilingLoops& ceiling_loops(const char* target) {
#if defined(__x86_64__)
  const std::string_view name(target);
  if (name.starts_with("AVX3")) return kLoopsAvx512;
  return name == "AVX2" ? kLoopsAvx2 : kLoopsSse4;
#else
  (void)target;
  return kLoopsNative;
#endif
}

namespace {

volatile char g_sink;  // keeps results alive

struct Range {
  size_t first, last;
};

// The share of thread `index`, cut at multiples of `unit`.
Range thread_range(size_t count, size_t unit, int index, int threads) {
  const size_t units = (count + unit - 1) / unit;
  const auto cut = [&](int i) { return std::min(count, units * i / threads * unit); };
  return {cut(index), cut(index + 1)};
}

}  // namespace

void stream(const CeilingLoops& loops, int reads, char* const* in, char* out, size_t bytes, bool non_temporal,
            int threads) {
  bytes = (bytes + 255) / 256 * 256;
  const auto one = [&](int index) {
    const auto [first, last] = thread_range(bytes, 4096, index, threads);
    const char* from[3] = {in[0] + first, in[1] + first, in[2] + first};
    if (out != nullptr) {
      loops.write[reads][non_temporal](from, out + first, last - first);
    } else {
      g_sink = loops.read[reads](from, last - first);
    }
  };
  if (threads == 1) return one(0);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int index = 0; index < threads; ++index) one(index);
}

double sum_of_squares(const CeilingLoops& loops, mseloss::DType dtype, const void* x, const void* y, size_t n,
                      int threads) {
  const auto kernel = loops.squares[static_cast<int>(dtype)];
  const size_t size = static_cast<size_t>(mseloss::size_of(dtype));
  const auto one = [&](int index) {
    const auto [first, last] = thread_range(n, 1024, index, threads);
    const auto at = [&](const void* p) { return static_cast<const char*>(p) + first * size; };
    return kernel(at(x), at(y), last - first);
  };
  if (threads == 1) return one(0);
  double sum = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : sum)
  for (int index = 0; index < threads; ++index) sum += one(index);
  return sum;
}

}  // namespace bench
