// The plan: everything that can be decided about a call without touching an element.
#pragma once

#include <bit>
#include <cstdint>

#include "mseloss/types.h"

namespace mseloss {

enum class Op : uint8_t { kGrad, kLoss, kLossAndGrad };

// Operands by position. kOut is grad_input, or the elementwise loss; the scalar loss is not an operand of the
// walk.
enum Operand : uint8_t { kGradOutput, kInput, kTarget, kOut, kOut2, kOperands };

enum class Layout : uint8_t {
  kEmpty,    // no elements
  kDense,    // one dimension, every operand of stride 0 or 1
  kRows,     // inner stride 0 or 1 for every operand, an inner extent of a cache line or more
  kGeneral,  // boxes: operands that cannot be read in place go through tiles
};

// Invariants: 0 <= rank <= 8; extents >= 2 unless empty (rank 0 is one element); dimensions are ordered by
// descending stride of kOut, whose strides are >= 0; adjacent dimensions that every operand walks in one
// stride are merged. Strides count elements; offset leads from an operand's first element to where the walk
// starts.
struct Plan {
  Op op;
  Reduction reduction;
  Layout layout;
  DType dtype;              // what the inputs are promoted to
  DType dtypes[kOperands];  // as given
  uint8_t operands;         // bit per operand present
  int rank;
  int64_t extent[kMaxRank];
  int64_t stride[kOperands][kMaxRank];
  int64_t offset[kOperands];
  DType loss_dtype;  // of the 0-dimensional loss
  int64_t numel;     // of the broadcast shape
  double scale;      // exact in the compute dtype
};

inline bool has(const Plan& plan, int operand) { return plan.operands >> operand & 1; }

// f(operand) for each operand present, in order.
template <class F>
inline void for_each_operand(const Plan& plan, F f) {
  for (unsigned rest = plan.operands; rest != 0; rest &= rest - 1) f(std::countr_zero(rest));
}

// The dimension in which the operand's neighbours in memory lie: of its smallest stride; -1 if it does not
// move.
int contiguous_dimension(const Plan& plan, int operand);

// The parameters' names in error messages; the aclnn layer has its own.
struct Names {
  const char* grad_output = "grad_output";
  const char* input = "input";
  const char* target = "target";
  const char* out = "grad_input";
  const char* loss = "loss";
};

// Where the operands are, by Operand: element (0, ..., 0) of each, as in Tensor::data. Only kOut, which is
// grad_input or loss's `out`, and kOut2, loss_and_grad's loss, are written.
struct Buffers {
  Buffers() = default;
  Buffers(const void* grad_output, const void* input, const void* target, void* out, void* loss)
      : data{const_cast<void*>(grad_output), const_cast<void*>(input), const_cast<void*>(target), out, loss} {
  }

  void* operator[](int operand) const { return data[operand]; }
  void* data[kOperands] = {};
};

// Checks in this order: dtype, reduction, rank, shape, an output that overlaps itself. They do not look at
// data pointers.
Status make_grad_plan(const ConstTensor& grad_output, const ConstTensor& input, const ConstTensor& target,
                      Reduction reduction, const Tensor& out, Plan* plan, const Names& names = {});
Status make_loss_plan(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                      const Tensor& out, Plan* plan, const Names& names = {});
Status make_loss_and_grad_plan(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                               const ConstTensor& grad_output, const Tensor& loss, const Tensor& out,
                               Plan* plan, const Names& names = {});

// What depends on addresses: null pointers to elements, outputs that overlap inputs other than exactly.
Status check_buffers(const Plan& plan, const Buffers& buffers, const Names& names = {});

// Runs a checked plan to its end on this thread and helpers. Fails only with kOutOfMemory.
Status run(const Plan& plan, const Buffers& buffers, const Options& options);

}  // namespace mseloss
