#include "bench/contenders/openmp_loop.h"

#include <cmath>
#include <cstring>

namespace bench {
namespace {

// GCC 12 has no bfloat16 arithmetic; this conversion is the usual one.
struct BFloat16 {
  uint16_t bits;
  operator float() const {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
  }
  explicit BFloat16(float value) {
    uint32_t wide;
    std::memcpy(&wide, &value, sizeof(wide));
    bits = static_cast<uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
  }
};

// kUnitOut: out has stride 1. The usual input strides then get loops with constant strides.
template <class T, class C, bool kUnitOut>
void grad_row(const T* g, const T* x, const T* y, T* out, int64_t n, const int64_t* step, C scale) {
  if constexpr (kUnitOut) {
    if (step[kG] == 1 && step[kX] == 1 && step[kY] == 1) {
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>((C(x[i]) - C(y[i])) * scale * C(g[i]));
      return;
    }
    if (step[kG] == 0 && step[kX] == 1 && step[kY] == 1) {
      const C g0 = C(g[0]);
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>((C(x[i]) - C(y[i])) * scale * g0);
      return;
    }
    if (step[kX] == 0) {
      const C x0 = C(x[0]);
      for (int64_t i = 0; i < n; ++i)
        out[i] = static_cast<T>((x0 - C(y[i * step[kY]])) * scale * C(g[i * step[kG]]));
      return;
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    out[i * step[kOut]] =
        static_cast<T>((C(x[i * step[kX]]) - C(y[i * step[kY]])) * scale * C(g[i * step[kG]]));
  }
}

template <class T, class C>
void grad(const Case& c, const Pointers& at) {
  const Shape& shape = c.shape();
  const BroadcastStrides strides = broadcast_strides(c);
  const auto* g = reinterpret_cast<const T*>(at.in[kG]);
  const auto* x = reinterpret_cast<const T*>(at.in[kX]);
  const auto* y = reinterpret_cast<const T*>(at.in[kY]);
  auto* out = reinterpret_cast<T*>(at.out);
  const C scale = c.reduction == Reduction::kMean ? C(2.0 / static_cast<double>(c.numel())) : C(2);
  const int last = static_cast<int>(shape.size()) - 1;
  const int64_t inner = last < 0 ? 1 : shape[last], rows = c.numel() / inner;
  int64_t step[kOperands];
  for (int o = 0; o < kOperands; ++o) step[o] = last < 0 ? 0 : strides.of[o][last];
  const bool unit = step[kOut] == 1;
  if (rows == 1 && unit && step[kX] == 1 && step[kY] == 1 && step[kG] <= 1) {
    const C g0 = C(g[0]);
    if (step[kG] == 0) {
#pragma omp parallel for simd schedule(static)
      for (int64_t i = 0; i < inner; ++i) out[i] = static_cast<T>((C(x[i]) - C(y[i])) * scale * g0);
    } else {
#pragma omp parallel for simd schedule(static)
      for (int64_t i = 0; i < inner; ++i) out[i] = static_cast<T>((C(x[i]) - C(y[i])) * scale * C(g[i]));
    }
    return;
  }
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    int64_t offset[kOperands] = {}, rest = row;
    for (int d = last - 1; d >= 0; --d) {
      const int64_t index = rest % shape[d];
      for (int o = 0; o < kOperands; ++o) offset[o] += index * strides.of[o][d];
      rest /= shape[d];
    }
    const auto run = unit ? &grad_row<T, C, true> : &grad_row<T, C, false>;
    run(g + offset[kG], x + offset[kX], y + offset[kY], out + offset[kOut], inner, step, scale);
  }
}

template <class T, class C>
void sum(const Case& c, const Pointers& at) {  // dense operands
  const auto* x = reinterpret_cast<const T*>(at.in[kX]);
  const auto* y = reinterpret_cast<const T*>(at.in[kY]);
  const int64_t n = c.numel();
  double total = 0;
#pragma omp parallel for simd schedule(static) reduction(+ : total)
  for (int64_t i = 0; i < n; ++i) {
    const double d = C(x[i]) - C(y[i]);
    total += d * d;
  }
  const T result = static_cast<T>(static_cast<C>(total / static_cast<double>(n)));
  std::memcpy(at.loss, &result, sizeof(result));
}

template <class T, class C>
void run(const Case& c, const Pointers& at) {
  if (c.op != Op::kGrad) sum<T, C>(c, at);
  if (c.op != Op::kLoss) grad<T, C>(c, at);
}

}  // namespace

bool has_openmp_loop(const Case& c) {
#if !defined(__FLT16_MANT_DIG__)
  if (c.dtype == DType::kFloat16) return false;
#endif
  if (c.weighted || !c.view[kLoss].shape.empty()) return false;
  return c.op != Op::kLoss || c.reduction != Reduction::kNone;
}

void run_openmp_loop(const Case& c, const Pointers& at) {
  switch (c.dtype) {
    case DType::kFloat32:
      return run<float, float>(c, at);
    case DType::kBFloat16:
      return run<BFloat16, float>(c, at);
    case DType::kFloat64:
      return run<double, double>(c, at);
    case DType::kFloat16:
#if defined(__FLT16_MANT_DIG__)
      return run<_Float16, float>(c, at);
#endif
    case DType::kBool:  // only of weights
      return;
  }
}

}  // namespace bench
