// Test cases of the operator package, on the repository's oracle and random operands.
#pragma once

#include <sstream>
#include <string>

#include "model/run.h"
#include "op_kernel/mse_loss_v2_grad_tiling.h"
#include "tests/support/cases.h"
#include "tests/support/oracle.h"

namespace ascend_tests {

using ascend_model::Chip;
using ascend_model::DType;
using ascend_model::Request;
using oracle::Shape;

inline constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBfloat16};
inline const char* const kReductions[] = {"none", "mean", "sum"};

inline mseloss::DType OracleType(DType dtype) {
  return dtype == DType::kFloat32   ? mseloss::DType::kFloat32
         : dtype == DType::kFloat16 ? mseloss::DType::kFloat16
                                    : mseloss::DType::kBFloat16;
}
inline mseloss::Reduction OracleReduction(const std::string& name) {
  return name == "none"   ? mseloss::Reduction::kNone
         : name == "mean" ? mseloss::Reduction::kMean
                          : mseloss::Reduction::kSum;
}
inline int64_t WidthOf(DType dtype) { return oracle::bytes_of(OracleType(dtype)); }

inline std::string TextOf(const Shape& shape) {
  std::ostringstream text;
  for (const int64_t dim : shape) {
    text << (text.tellp() > 0 ? "x" : "") << dim;
  }
  return shape.empty() ? "scalar" : text.str();
}

inline std::string TextOf(const Request& request) {
  static const char* const names[] = {"float32", "float16", "bfloat16"};
  static const char* const chips[] = {"A2", "310P", "950"};
  std::ostringstream text;
  text << chips[static_cast<int>(request.chip)] << '/' << names[static_cast<int>(request.dtype)] << '/'
       << request.reduction << '/' << TextOf(request.predict.shape) << '/' << TextOf(request.label.shape)
       << '/' << TextOf(request.dout.shape) << '/' << request.vector_cores << " cores/" << request.ub_bytes
       << " bytes of UB";
  return text.str();
}

// A request without memory, sufficient for tiling.
inline Request RequestOf(DType dtype, const std::string& reduction, const Shape& predict, const Shape& label,
                         const Shape& dout) {
  Request request;
  request.dtype = dtype;
  request.reduction = reduction;
  request.predict.shape = predict;
  request.label.shape = label;
  request.dout.shape = dout;
  request.y_shape = oracle::broadcast({predict, label, dout});
  return request;
}

// A call with its memory: random values of one class, tensors aligned only to the element size, and guard
// bytes around y.
class Case {
 public:
  Case(Request request, cases::Values values, uint64_t seed) : request_(std::move(request)) {
    cases::Random random(seed);
    request_.seed = seed;
    ascend_model::Tensor* inputs[] = {&request_.predict, &request_.label, &request_.dout};
    const mseloss::DType dtype = OracleType(request_.dtype);
    const int64_t width = WidthOf(request_.dtype);
    for (int i = 0; i < 3; ++i) {
      const int64_t count = oracle::count_of(inputs[i]->shape);
      offset_[i] = static_cast<size_t>(width * random.range(0, 31));
      data_[i].resize(offset_[i] + static_cast<size_t>(count * width));
      for (int64_t e = 0; e < count; ++e) {
        oracle::store(dtype, data_[i].data() + offset_[i] + e * width,
                      cases::random_value(random, dtype, values));
      }
      inputs[i]->data = data_[i].data() + offset_[i];
    }
    offset_[3] = kGuard + static_cast<size_t>(width * random.range(0, 31));
    data_[3].assign(offset_[3] + static_cast<size_t>(oracle::count_of(request_.y_shape) * width) + kGuard,
                    0xA5);
    request_.y = data_[3].data() + offset_[3];
  }

  Request& request() { return request_; }

  // Returns an empty string if no rule was broken, every element has the oracle's bits and no guard byte
  // changed.
  std::string RunAndCheck(const ascend_model::Operator& op = ascend_model::MseLossV2Grad()) {
    // Computed before the run, because y may be one of the inputs.
    const mseloss::DType dtype = OracleType(request_.dtype);
    const auto view = [&](const ascend_model::Tensor& t) {
      return mseloss::ConstTensor(t.data, dtype, t.shape);
    };
    const oracle::Bits expected =
        oracle::grad(view(request_.dout), view(request_.predict), view(request_.label),
                     OracleReduction(request_.reduction), dtype);
    outcome = ascend_model::RunOperator(op, request_);
    if (!outcome.error.empty()) {
      return outcome.error;
    }
    const int64_t width = WidthOf(request_.dtype);
    for (size_t i = 0; i < expected.size(); ++i) {
      const uint64_t actual =
          oracle::load(dtype, static_cast<uint8_t*>(request_.y) + i * static_cast<size_t>(width));
      if (!oracle::same(dtype, actual, expected[i])) {
        std::ostringstream text;
        text << "element " << i << " is " << oracle::decode(dtype, actual) << ", expected "
             << oracle::decode(dtype, expected[i]);
        return text.str();
      }
    }
    const size_t end = offset_[3] + expected.size() * static_cast<size_t>(width);
    for (size_t i = 0; i < data_[3].size(); ++i) {
      if ((i < offset_[3] || i >= end) && data_[3][i] != 0xA5) {
        return "a byte outside y was written";
      }
    }
    return "";
  }
  ascend_model::Outcome outcome;

 private:
  static constexpr size_t kGuard = 64;
  Request request_;
  std::vector<uint8_t> data_[4];
  size_t offset_[4];
};

}  // namespace ascend_tests
