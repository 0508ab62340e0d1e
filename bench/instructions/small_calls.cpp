// mseloss_small_calls CASE CALLS: makes small calls for callgrind to count (budget.py).
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "mseloss/mseloss.h"

namespace {

using mseloss::Reduction;

struct Arrays {
  std::vector<float> x, y, g, out;
  explicit Arrays(size_t n) : x(n, 1.5f), y(n, 0.25f), g(n, 1.0f), out(n) {}
};

// `rows` rows of `n` elements, row pitch in elements.
bool grad(Arrays* a, int64_t rows, int64_t n, int64_t pitch) {
  const int64_t shape[] = {rows, n}, strides[] = {pitch, 1};
  return mseloss::grad({a->g.data(), shape, strides}, {a->x.data(), shape, strides},
                       {a->y.data(), shape, strides}, Reduction::kMean, {a->out.data(), shape, strides})
      .ok();
}

bool loss(Arrays* a, int64_t n) {
  const int64_t shape[] = {n};
  return mseloss::loss({a->x.data(), shape}, {a->y.data(), shape}, Reduction::kMean, {a->out.data()}).ok();
}

bool fused(Arrays* a, int64_t n) {
  const int64_t shape[] = {n};
  float value;
  return mseloss::loss_and_grad({a->x.data(), shape}, {a->y.data(), shape}, Reduction::kMean, {a->g.data()},
                                {&value}, {a->out.data(), shape})
      .ok();
}

bool call(const std::string& name, Arrays* a) {
  if (name == "grad_16") return grad(a, 1, 16, 16);
  if (name == "loss_16") return loss(a, 16);
  if (name == "fused_16") return fused(a, 16);
  if (name == "grad_16384") return grad(a, 1, 16384, 16384);
  if (name == "loss_16384") return loss(a, 16384);
  if (name == "rows_64x128") return grad(a, 64, 128, 160);
  if (name == "inner_1024x7") return grad(a, 1024, 7, 8);
  return false;
}

}  // namespace

// callgrind counts only inside this function. It excludes start-up, whose work depends on the clock (libhwy
// measures its resolution), and the first call, which selects the kernels.
extern "C" [[gnu::noinline]] int counted_calls(const char* name, void* arrays, long calls) {
  for (; calls > 0; --calls) {
    if (!call(name, static_cast<Arrays*>(arrays))) return 1;
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  Arrays arrays(64 * 1024);
  if (!call(argv[1], &arrays)) return 1;
  return counted_calls(argv[1], &arrays, std::atol(argv[2]));
}
