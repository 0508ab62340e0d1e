#include "bench/cases/case.h"

#include <algorithm>
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

View strided(Shape shape, int64_t step) {
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
  switch (operand) {
    case kG:
      return op != Op::kLoss;
    case kW:
      return weighted;
    case kOut:
      return op != Op::kLoss || reduction == Reduction::kNone;
    case kLoss:
      return op != Op::kGrad && reduction != Reduction::kNone;
    default:
      return true;
  }
}

Case make_case(std::string group, Op op, DType dtype, const std::string& layout_and_size, View g, View x,
               View y, View out) {
  constexpr const char* kOps[] = {"grad", "loss", "fused"};
  Case c;
  c.group = std::move(group);
  c.id = std::string(kOps[static_cast<int>(op)]) + "/" + short_name(dtype) + "/" + layout_and_size;
  c.op = op;
  c.dtype = dtype;
  c.view[kG] = std::move(g);
  c.view[kX] = std::move(x);
  c.view[kY] = std::move(y);
  c.view[kOut] = std::move(out);
  return c;
}

Case with_weight(Case c, View weight, DType dtype) {
  c.view[kW] = std::move(weight);
  c.weight_dtype = dtype;
  c.weighted = true;
  return c;
}

Case with_axis(Case c, View loss) {
  c.view[kLoss] = std::move(loss);
  return c;
}

const char* short_name(DType dtype) {
  constexpr const char* kNames[] = {"f32", "f16", "bf16", "f64"};
  return kNames[static_cast<int>(dtype)];
}

BroadcastStrides broadcast_strides(const Case& c) {
  BroadcastStrides strides{};
  for (int o = 0; o < kOperands; ++o) {
    const View& view = c.view[o];
    const size_t missing = c.shape().size() - view.shape.size();
    for (size_t d = 0; d < view.shape.size(); ++d)
      strides.of[o][missing + d] = view.shape[d] == 1 ? 0 : view.strides[d];
  }
  return strides;
}

int64_t required_bytes(const View& view, DType dtype) {
  int64_t last = view.offset;
  for (size_t d = 0; d < view.shape.size(); ++d) last += view.strides[d] * (view.shape[d] - 1);
  return (last + 1) * mseloss::size_of(dtype);
}

namespace {

// Bytes in the cache lines that the view touches, estimated from its rows along the smallest stride and
// limited to the distance from its first to its last element.
int64_t cache_line_bytes(const View& view, DType dtype) {
  constexpr int64_t kLine = 64;
  const int64_t size = mseloss::size_of(dtype);
  int64_t rows = 1, stride = INT64_MAX, extent = 1;
  for (size_t d = 0; d < view.shape.size(); ++d) {
    if (view.shape[d] == 1) continue;
    rows *= view.shape[d];
    if (view.strides[d] < stride) stride = view.strides[d], extent = view.shape[d];
  }
  rows /= extent;
  const int64_t row =
      extent == 1 ? size : std::min(extent * kLine, ((extent - 1) * stride + 1) * size + kLine / 2);
  const int64_t span = required_bytes(view, dtype) - view.offset * size;
  return std::min(span, rows * row);
}

}  // namespace

Traffic traffic(const Case& c) {
  int64_t bytes[kOperands] = {}, most = 0;
  for (int o = 0; o < kOperands; ++o) {
    if (c.present(o)) bytes[o] = cache_line_bytes(c.view[o], c.dtype_of(o));
    most = std::max(most, bytes[o]);
  }
  Traffic result;
  for (int o = 0; o < kOperands; ++o) {
    result.bytes += bytes[o];
    if (bytes[o] * 16 >= most) ++(o >= kOut ? result.writes : result.reads);
  }
  return result;
}

}  // namespace bench
