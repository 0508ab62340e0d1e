#include "bench/cases/case.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace bench {

View permuted(const Shape& shape, const std::vector<int>& order) {
  View view{shape, Shape(shape.size()), 0};
  int64_t stride = 1;
  for (size_t i = order.size(); i-- > 0;) {
    view.strides[order[i]] = stride;
    stride *= shape[order[i]];
  }
  return view;
}

View dense(Shape shape) {
  std::vector<int> order(shape.size());
  std::iota(order.begin(), order.end(), 0);
  return permuted(shape, order);
}

View pitched(Shape shape, int64_t pitch) {
  View view = dense(shape);
  int64_t stride = pitch;
  for (size_t d = shape.size() - 1; d-- > 0;) {
    view.strides[d] = stride;
    stride *= shape[d];
  }
  return view;
}

View every(Shape shape, int64_t step) {
  View view = dense(std::move(shape));
  for (int64_t& stride : view.strides) stride *= step;
  return view;
}

int64_t Case::numel() const {
  int64_t count = 1;
  for (const int64_t extent : shape()) count *= extent;
  return count;
}

bool Case::present(int operand) const {
  if (operand == kG) return op != Op::kLoss;
  return operand != kOut || op != Op::kLoss || reduction == Reduction::kNone;
}

const char* short_name(DType dtype) {
  constexpr const char* kNames[] = {"f32", "f16", "bf16", "f64"};
  return kNames[static_cast<int>(dtype)];
}

int64_t reach(const View& view, DType dtype) {
  int64_t last = view.offset;
  for (size_t d = 0; d < view.shape.size(); ++d) last += view.strides[d] * (view.shape[d] - 1);
  return (last + 1) * mseloss::size_of(dtype);
}

namespace {

// Bytes in the cache lines that the view touches: lines of its runs along the smallest stride, but no more
// than all between its first element and its last.
int64_t line_bytes(const View& view, DType dtype) {
  constexpr int64_t kLine = 64;
  const int64_t size = mseloss::size_of(dtype);
  int64_t runs = 1, smallest = INT64_MAX, extent = 1;
  for (size_t d = 0; d < view.shape.size(); ++d) {
    if (view.shape[d] == 1) continue;
    runs *= view.shape[d];
    if (view.strides[d] < smallest) smallest = view.strides[d], extent = view.shape[d];
  }
  runs /= extent;
  const int64_t run =
      extent == 1 ? size : std::min(extent * kLine, ((extent - 1) * smallest + 1) * size + kLine / 2);
  const int64_t span = reach(view, dtype) - view.offset * size;
  return std::min(span, runs * run);
}

}  // namespace

Traffic traffic(const Case& c) {
  int64_t bytes[kOperands] = {}, most = 0;
  for (int o = 0; o < kOperands; ++o) {
    if (c.present(o)) bytes[o] = line_bytes(c.view[o], c.dtype);
    most = std::max(most, bytes[o]);
  }
  Traffic result;
  for (int o = 0; o < kOperands; ++o) {
    result.bytes += bytes[o];
    if (bytes[o] * 16 >= most) ++(o == kOut ? result.writes : result.reads);
  }
  return result;
}

}  // namespace bench
