// The plan: everything about a call that can be decided without reading an element.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "mseloss/types.h"

namespace mseloss {

enum class Op : uint8_t { kGrad, kLoss, kLossAndGrad };

// Operands by position, inputs first. kOut is grad_input, or the output of loss(); kLossOut is the loss of
// loss_and_grad(). A 0-dimensional loss is not part of the loop nest. A loss of slices is kLossOut, also for
// loss(): its stride is 0 in the reduced dimensions.
enum Operand : uint8_t { kGradOutput, kInput, kTarget, kWeight, kOut, kLossOut, kOperands };

enum class Layout : uint8_t {
  kEmpty,    // no elements
  kDense,    // one dimension, stride 0 or 1 for every operand
  kRows,     // inner stride 0 or 1 for every operand, inner extent of at least a cache line
  kGeneral,  // tiled: operands that the kernels cannot access directly are packed
};

// Invariants unless empty: 0 <= rank <= 8, where rank 0 is one element; extents >= 2; strides of kOut
// (without an output, of kInput) >= 0. The innermost dimension is the one in which most operands are
// contiguous; the others are in descending order of kOut's strides. Adjacent dimensions that form one stride
// for every operand are merged. Strides count elements; offset is the distance from an operand's element (0,
// ..., 0) to the first element of the loop nest.
struct Plan {
  Op op;
  Reduction reduction;
  Layout layout;
  DType dtype;              // of the kernels; operands of another dtype, masks excepted, are converted while
                            // they are packed
  DType dtypes[kOperands];  // of each operand, as given
  uint8_t operands;         // one bit per operand present
  bool sliced;              // one sum or mean for each element of kLossOut
  int rank;
  int64_t extent[kMaxRank];
  int64_t stride[kOperands][kMaxRank];
  int64_t offset[kOperands];
  DType loss_dtype;  // of the 0-dimensional loss
  int64_t numel;     // elements of the broadcast shape
  int64_t slices;    // elements of kLossOut, if sliced
  // Of a gradient: kOut already holds it for a grad_output of 1, so a backend may leave it if grad_output is
  // one element that is 1.
  bool holds_unit_gradient;
  // Exact in the compute dtype. NaN for a mean with weights, until the backend has computed it.
  double scale;
};

// A weight of dtype bool, which selects elements.
inline bool is_masked(const Plan& plan) { return plan.dtypes[kWeight] == DType::kBool; }

// The dtype as which the CPU's kernels access an operand: they read a mask as it is, except the kernels of
// slices, which read weights 0 and 1 of the plan's dtype.
inline DType kernel_dtype(const Plan& plan, int operand) {
  return operand == kWeight && is_masked(plan) && !plan.sliced ? DType::kBool : plan.dtype;
}
inline bool is_converted(const Plan& plan, int operand) {
  const DType own = plan.dtypes[operand];
  return own != plan.dtype && own != kernel_dtype(plan, operand);
}

inline bool has(const Plan& plan, int operand) { return plan.operands >> operand & 1; }

// Calls f(operand) for each operand present, in order.
template <class F>
inline void for_each_operand(const Plan& plan, F f) {
  for (int o = 0; o < kOperands; ++o) {
    if (has(plan, o)) f(o);
  }
}

// Whether a dimension of a sliced plan is summed.
inline bool is_reduced(const Plan& plan, int dimension) { return plan.stride[kLossOut][dimension] == 0; }

// Calls f(offsets) for each slice with wanted(offset of the loss); offsets are the distances of each
// operand's first element from its data pointer, in elements.
template <class Wanted, class F>
Status for_each_slice(const Plan& plan, Wanted wanted, F f) {
  int kept[kMaxRank], rank = 0;
  for (int d = 0; d < plan.rank; ++d) {
    if (!is_reduced(plan, d)) kept[rank++] = d;
  }
  int64_t index[kMaxRank] = {}, outer[kOperands];
  std::copy_n(plan.offset, kOperands, outer);
  const int inner = rank == 0 ? 0 : kept[--rank];
  const int64_t count = plan.rank == 0 || is_reduced(plan, inner) ? 1 : plan.extent[inner];
  for (;;) {
    for (int64_t i = 0; i < count; ++i) {
      if (!wanted(outer[kLossOut] + i * plan.stride[kLossOut][inner])) continue;
      int64_t offset[kOperands];
      for (int o = 0; o < kOperands; ++o) offset[o] = outer[o] + i * plan.stride[o][inner];
      if (Status status = f(offset); !status.ok()) return status;
    }
    int k = rank;
    while (k-- > 0) {
      const int d = kept[k];
      const bool more = ++index[d] < plan.extent[d];
      for (int o = 0; o < kOperands; ++o) {
        outer[o] += plan.stride[o][d] * (more ? 1 : 1 - plan.extent[d]);
      }
      if (more) break;
      index[d] = 0;
    }
    if (k < 0) return {};
  }
}

template <class F>
Status for_each_slice(const Plan& plan, F f) {
  return for_each_slice(
      plan, [](int64_t) { return true; }, f);
}

// The layout class of the plan's strides.
Layout classify(const Plan& plan);

// The dtype that holds every value of both.
inline DType promote(DType a, DType b) {
  if (a == b) return a;
  return a == DType::kFloat64 || b == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

// Whether the loss is a sum, and the buffer that receives it.
inline bool has_sum(const Plan& plan) { return plan.op != Op::kGrad && plan.reduction != Reduction::kNone; }
inline Operand loss_operand(const Plan& plan) { return plan.op == Op::kLoss ? kOut : kLossOut; }

// The dimension of the operand's smallest non-zero stride; -1 if the operand is broadcast in all dimensions.
int contiguous_dimension(const Plan& plan, int operand);

// Parameter names for error messages; the aclnn layer passes CANN's.
struct Names {
  const char* of[kOperands] = {"grad_output", "input", "target", "weight", "grad_input", "loss"};
};
inline constexpr Names kNames;  // those of the C++ API

// Addresses of the operands' elements (0, ..., 0), by Operand, as in Tensor::data. Only kOut and kLossOut are
// written.
struct Buffers {
  Buffers() = default;
  Buffers(const void* grad_output, const void* input, const void* target, void* out, void* loss,
          const void* weight = nullptr)
      : data{const_cast<void*>(grad_output),
             const_cast<void*>(input),
             const_cast<void*>(target),
             const_cast<void*>(weight),
             out,
             loss} {}

  void* operator[](int operand) const { return data[operand]; }
  void* data[kOperands] = {};
};

// The rounding of an elementwise loss: from the compute dtype to the output's dtype (kOnce), or to the
// inputs' promoted dtype first, as in CANN (kInputsFirst).
enum class LossRounding : uint8_t { kOnce, kInputsFirst };

// `weight` is null for none. Check, in this order, dtypes, reduction, ranks, shapes, and whether an output
// overlaps itself; then fill *plan. Data pointers are not read. On an error *plan is unspecified.
Status make_grad_plan(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                      Reduction reduction, const Tensor& out, Plan* plan, const Names& names = kNames,
                      const ConstTensor* weight = nullptr);
Status make_loss_plan(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                      const Tensor& out, Plan* plan, const Names& names = kNames,
                      LossRounding rounding = LossRounding::kOnce, const ConstTensor* weight = nullptr);
Status make_loss_and_grad_plan(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                               const ConstTensor& grad_output, const Tensor& loss, const Tensor& out,
                               Plan* plan, const Names& names = kNames, const ConstTensor* weight = nullptr);

// The plan of dense operands of one dtype and one shape of `numel` > 0 elements, without a weight, whose loss
// is 0-dimensional if it is a sum. grad_output, if the operator has one, has that shape or is one element.
// Checks nothing: for callers whose operands are valid and do not overlap.
Plan make_dense_plan(Op op, Reduction reduction, DType dtype, int64_t numel, bool broadcast_grad_output,
                     double scale);

// The checks that need addresses: null pointers, and outputs that overlap another operand without being
// exactly its view.
Status check_buffers(const Plan& plan, const Buffers& buffers, const Names& names = kNames);
}  // namespace mseloss
