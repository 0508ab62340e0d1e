// Fork-join latency: a small job split between threads by oneTBB and by OpenMP. A shared library, so that
// fork_join.py can load it into a process in which PyTorch's thread pool already runs.
#include <omp.h>
#include <tbb/parallel_for.h>

#include <chrono>
#include <cstdint>
#include <cstring>

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Job {
  const float *x, *y;
  float* out;
  int64_t n;
  int threads;
  void operator()(int index) const {
    const int64_t first = n * index / threads, last = n * (index + 1) / threads;
    for (int64_t i = first; i < last; ++i) out[i] = x[i] - y[i];
  }
};

void by_tbb(const Job& job) {
  tbb::parallel_for(
      0, job.threads, [&](int index) { job(index); }, tbb::simple_partitioner());
}

void by_openmp(const Job& job) {
#pragma omp parallel for num_threads(job.threads) schedule(static, 1)
  for (int index = 0; index < job.threads; ++index) job(index);
}

}  // namespace

// Seconds for one job of n elements (0: an empty job) in `threads` parts.
extern "C" __attribute__((visibility("default"))) double run_tbb(const float* x, const float* y, float* out,
                                                                 int64_t n, int threads) {
  const double start = now();
  by_tbb({x, y, out, n, threads});
  return now() - start;
}

extern "C" __attribute__((visibility("default"))) double run_openmp(const float* x, const float* y,
                                                                    float* out, int64_t n, int threads) {
  const double start = now();
  by_openmp({x, y, out, n, threads});
  return now() - start;
}
