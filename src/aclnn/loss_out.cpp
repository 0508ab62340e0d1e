#include "aclnn/loss_out.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "numerics/float_environment.h"
#include "numerics/formats.h"
#include "numerics/sum_access.h"
#include "plan/arguments.h"
#include "plan/overlap.h"

namespace mseloss::aclnn {
namespace {

constexpr int kBlock = 256;                  // columns summed together: their sums stay in the L1 cache
constexpr int64_t kMaxFastRows = 1ll << 30;  // up to here kSlack covers the second-order terms of the bound

ByteView byte_view_of(const OperandView& view, const void* data) {
  ByteView bytes{reinterpret_cast<intptr_t>(data), size_of(view.dtype), view.rank, {}, {}};
  for (int d = 0; d < view.rank; ++d) {
    bytes.extent[d] = view.extent[d];
    bytes.stride[d] = view.stride[d] * size_of(view.dtype);
  }
  return bytes;
}

bool is_empty(const OperandView& view) {
  return std::find(view.extent, view.extent + view.rank, 0) != view.extent + view.rank;
}

Status check_out_shape(const ConstTensor& out, const BroadcastShape& shape, const Names& names) {
  const std::span<const int64_t> columns(shape.extent + 1, static_cast<size_t>(shape.rank - 1));
  if (std::ranges::equal(out.shape, columns)) return {};
  return Status::error(
      Code::kShape,
      "%s: expected the broadcast shape %s without its first dimension for reduction mean or "
      "sum, got %s",
      names.out, ShapeText(shape.extent, shape.rank).text, ShapeText(out).text);
}

Status check_out_overlap(const Argument& out) {
  const View& tensor = *out.view;
  OperandView view{tensor.dtype, static_cast<int>(tensor.shape.size()), {}, {}};
  std::ranges::copy(tensor.shape, view.extent);
  std::ranges::copy(tensor.strides, view.stride);
  if (is_empty(view) || !may_overlap_itself(byte_view_of(view, nullptr))) return {};
  return self_overlap_error(out);
}

float float_of_half(uint16_t half) {
  // The float with the same exponent and fraction bits is too small by 2^(127 - 15): exact, also for
  // subnormals. Only infinities and NaNs need another exponent.
  const uint32_t magnitude = (half & 0x7fffu) << 13;
  float value = std::bit_cast<float>(magnitude) * 0x1p112f;
  if ((half & 0x7c00) == 0x7c00) value = std::bit_cast<float>(magnitude | 0x7f800000u);
  return half & 0x8000 ? -value : value;
}

// A row of an operand as float32.
struct Row {
  const char* data;
  int64_t stride;  // bytes

  template <class T, class Convert>
  void convert(int count, float* to, Convert f) const {
    const auto convert_all = [&](auto step) {
      for (int i = 0; i < count; ++i) {
        T value;
        std::memcpy(&value, data + i * step, sizeof(value));
        to[i] = f(value);
      }
    };
    // A constant step lets the compiler vectorise the loop.
    if (stride == sizeof(T)) {
      convert_all(std::integral_constant<int64_t, sizeof(T)>());
    } else {
      convert_all(stride);
    }
  }
  void widen(DType dtype, int count, float* to) const {
    if (dtype == DType::kFloat32) {
      convert<float>(count, to, [](float value) { return value; });
    } else if (dtype == DType::kFloat16) {
      convert<uint16_t>(count, to, float_of_half);
    } else {
      convert<uint16_t>(count, to,
                        [](uint16_t value) { return std::bit_cast<float>(uint32_t{value} << 16); });
    }
  }
};

// One operand over the broadcast shape: dimension 0 is the rows, the rest the columns.
struct Input {
  Input(const OperandView& view, const Call& call, int64_t out_rank, const void* address)
      : dtype(view.dtype), data(static_cast<const char*>(address)) {
    const int64_t rank = out_rank + 1;
    for (int64_t d = 0; d < rank; ++d) {
      const int64_t at = d - (rank - view.rank);
      const bool strided = at >= 0 && view.extent[at] != 1;
      (d == 0 ? row_stride : column_stride[d - 1]) = strided ? view.stride[at] * size_of(dtype) : 0;
    }
    for (const int o : {kInput, kTarget}) {
      const OperandView& other = call.views[o];
      if (other.rank == rank && other.extent[0] != 1) rows = other.extent[0];
    }
    if (rows == 0) std::fill_n(column_stride, kMaxRank, 0);  // nothing is read, and `address` may be null
  }
  DType dtype;
  const char* data;
  int64_t rows = 1;
  int64_t row_stride = 0;                // bytes
  int64_t column_stride[kMaxRank] = {};  // bytes
};

class ColumnSums {
 public:
  ColumnSums(const Call& call, const Buffers& buffers)
      : plan_(call.plan),
        out_(call.views[kOut]),
        x_(call.views[kInput], call, out_.rank, buffers[kInput]),
        y_(call.views[kTarget], call, out_.rank, buffers[kTarget]),
        to_(static_cast<char*>(buffers[kOut])) {}

  Status run() {
    if (is_empty(out_)) return {};
    int64_t index[kMaxRank] = {};
    for (;;) {
      if (Status status = run_innermost(index); !status.ok()) return status;
      int d = out_.rank - 2;
      for (; d >= 0 && ++index[d] == out_.extent[d]; --d) index[d] = 0;
      if (d < 0) return {};
    }
  }

 private:
  // All columns along the innermost dimension of the output.
  Status run_innermost(const int64_t* index) {
    const int inner = out_.rank - 1;
    const char *x = x_.data, *y = y_.data;
    char* out = to_;
    for (int d = 0; d < inner; ++d) {
      x += index[d] * x_.column_stride[d];
      y += index[d] * y_.column_stride[d];
      out += index[d] * out_.stride[d] * size_of(out_.dtype);
    }
    const int64_t x_step = x_.column_stride[inner], y_step = y_.column_stride[inner];
    const int64_t out_step = out_.stride[inner] * size_of(out_.dtype);
    for (int64_t first = 0; first < out_.extent[inner]; first += kBlock) {
      const int count = static_cast<int>(std::min<int64_t>(kBlock, out_.extent[inner] - first));
      sum_block({x + first * x_step, x_step}, {y + first * y_step, y_step}, count);
      for (int i = 0; i < count; ++i) {
        const int64_t column = first + i;
        if (Status status =
                store(x + column * x_step, y + column * y_step, sums_[i], out + column * out_step);
            !status.ok()) {
          return status;
        }
      }
    }
    return {};
  }

  // Fast sums of a block's columns in sums_: squares of float32 are exact in float64.
  void sum_block(Row x, Row y, int count) {
    std::fill_n(sums_, count, 0.0);
    if (x_.rows > kMaxFastRows) return;
    for (int64_t row = 0; row < x_.rows; ++row) {
      x.widen(x_.dtype, count, x_row_);
      y.widen(y_.dtype, count, y_row_);
      for (int i = 0; i < count; ++i) {
        const double difference = x_row_[i] - y_row_[i];  // rounded to float32
        sums_[i] += difference * difference;
      }
      x.data += x_.row_stride;
      y.data += y_.row_stride;
    }
  }

  Status store(const char* x, const char* y, double fast_sum, char* out) const {
    double value;
    SumState fast;
    const auto rows = static_cast<uint64_t>(x_.rows);
    // Each square passes at most `rows` additions.
    const RowSum sum{fast_sum, 0, static_cast<double>(rows) * kUnit * fast_sum * kSlack};
    SumAccess::add_fast(&fast, sum, rows);
    if (x_.rows > kMaxFastRows || !SumAccess::finish(fast, nullptr, plan_.reduction, plan_.dtype, &value)) {
      const int64_t shape[] = {x_.rows};
      const int64_t x_stride[] = {x_.row_stride / size_of(x_.dtype)};
      const int64_t y_stride[] = {y_.row_stride / size_of(y_.dtype)};
      PartialSum exact;
      if (Status status = exact.add(ConstTensor(x, x_.dtype, shape, x_stride),
                                    ConstTensor(y, y_.dtype, shape, y_stride), PartialSum::Mode::kExact);
          !status.ok()) {
        return status;
      }
      exact.finish(plan_.reduction, plan_.dtype, &value);  // always succeeds for an exact sum
    }
    store_rounded(load(plan_.dtype, &value), out_.dtype, out);
    return {};
  }

  const Plan& plan_;
  const OperandView& out_;
  const Input x_, y_;
  char* const to_;
  double sums_[kBlock];
  float x_row_[kBlock], y_row_[kBlock];
};

}  // namespace

Status make_loss_out_call(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                          const mseloss::Tensor& out, Call* call, const Names& names) {
  const mseloss::Tensor scalar(nullptr, out.dtype);
  if (Status status = make_loss_plan(input, target, reduction, scalar, &call->plan, names); !status.ok()) {
    return status;
  }
  const ConstTensor const_out(out);
  const Argument output{&const_out, names.out, kOut};
  for (const auto check : {check_rank, check_extents}) {
    if (Status status = check(output); !status.ok()) return status;
  }
  const Argument inputs[] = {{&input, names.input, kInput}, {&target, names.target, kTarget}};
  BroadcastShape shape;
  if (Status status = broadcast(inputs, &shape); !status.ok()) return status;
  call->first_dimension = shape.rank > 1;
  if (!call->first_dimension) return check_scalar_output(output);
  if (Status status = check_out_shape(const_out, shape, names); !status.ok()) return status;
  return check_out_overlap(output);
}

Status check_loss_out_buffers(const Call& call, const Buffers& buffers, const Names& names) {
  const struct {
    Operand operand;
    const char* name;
  } operands[] = {{kInput, names.input}, {kTarget, names.target}, {kOut, names.out}};
  for (const auto& [operand, name] : operands) {
    if (buffers[operand] != nullptr || is_empty(call.views[operand])) continue;
    return Status::error(Code::kNullPointer, "%s: expected the address of its elements, got a null pointer",
                         name);
  }
  if (is_empty(call.views[kOut])) return {};
  const ByteView out = byte_view_of(call.views[kOut], buffers[kOut]);
  for (const auto& [operand, name] : operands) {
    if (operand == kOut || is_empty(call.views[operand])) continue;
    if (may_share_memory(out, byte_view_of(call.views[operand], buffers[operand]))) {
      return overlap_error(names.out, name, false);
    }
  }
  return {};
}

Status run_loss_out(const Call& call, const Buffers& buffers) {
  const FloatEnvironment environment;
  return ColumnSums(call, buffers).run();
}

}  // namespace mseloss::aclnn
