// Divides a checked plan into kernel launches. Nothing here waits for the device: whether a fast sum is
// enough is decided there, and the exact sweep that follows it returns at once where it is.
#include <utility>

#include "cuda/driver.h"
#include "cuda/shape.h"
#include "numerics/formats.h"
#include "plan/parts.h"

namespace mseloss::cuda {
namespace {

constexpr int64_t kBlockElements = int64_t{kThreads} * kUnroll;  // or chunks

// Scratch memory of one call, allocated and freed in stream order.
class Scratch {
 public:
  Scratch(const Driver& driver, void* stream) : driver_(driver), stream_(stream) {}
  ~Scratch() {
    for (int i = 0; i < count_; ++i) driver_.release(blocks_[i], stream_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  Status allocate(size_t bytes, uint64_t* address) {
    void* block = nullptr;
    if (const char* error = driver_.allocate(bytes, stream_, &block)) {
      return Status::error(Code::kOutOfMemory, "scratch: expected %zu bytes of device memory, got \"%s\"",
                           bytes, error);
    }
    blocks_[count_++] = block;
    *address = reinterpret_cast<uintptr_t>(block);
    return {};
  }

 private:
  const Driver& driver_;
  void* stream_;
  void* blocks_[8];  // at most 3 for each of two sums, and the scales
  int count_ = 0;
};

class Call {
 public:
  Call(const Driver& driver, const DeviceInfo& device, const Options& options)
      : driver_(driver), device_(device), options_(options), scratch_(driver, options.stream) {}

  Status run(const Plan& plan, const Buffers& buffers) {
    if (needs_scale(plan)) {
      if (Status status = sum_weights(plan, buffers); !status.ok()) return status;
    }
    if (has_sum(plan)) return run_sum(plan, buffers);
    if (plan.numel == 0) return {};
    if (!needs_two_sweeps(plan)) return elementwise(plan, buffers, plan.operands);
    const Plan loss = loss_plan(plan), grad = grad_plan(plan);
    if (Status status = elementwise(loss, loss_buffers(buffers), loss.operands); !status.ok()) return status;
    return elementwise(grad, buffers, grad.operands);
  }

  Status copy(void* to, const void* from, size_t bytes, bool wait) {
    const char* error = driver_.copy(to, from, bytes, options_.stream);
    if (error == nullptr && wait) error = driver_.wait(options_.stream);
    return error == nullptr ? Status() : Status::error(Code::kDevice, "CUDA: a copy failed: %s", error);
  }

  // Sets the sum that a PartialSum adds, once the device has computed it.
  Status fetch_sum(const Plan& plan, const Buffers& buffers, const SumRequest& request, unsigned operands,
                   const SumTarget& target) {
    SumArguments a{};
    a.element = element_arguments(plan, buffers, operands, {});
    a.kind = Result::kState;
    a.weights_only = request.weights_only;
    struct {
      SumState state;
      uint64_t limbs[2 * PartialSum::kLimbs];
    } result;
    static_assert(sizeof result == kExactStateWords * sizeof(uint64_t));
    const size_t bytes = request.exact ? sizeof result : sizeof result.state;
    uint64_t address = 0;
    if (Status status = scratch_.allocate(bytes, &address); !status.ok()) return status;
    constexpr int64_t kOneSum[kMaxRank] = {};  // the plan is not sliced
    set_result(plan, address, DType::kFloat64, kOneSum, &a);
    const int kernel = sum_kernel(plan, buffers, operands, plan.op == Op::kLossAndGrad, &a);
    if (Status status = enqueue_sum(plan, &a, kernel); !status.ok()) return status;
    if (Status status = copy(&result, reinterpret_cast<void*>(address), bytes, true); !status.ok()) {
      return status;
    }
    SumState& state = *target.state = result.state;
    if (!request.exact && state.fast_terms == 0) state = {};  // without the bound
    if (request.weights_only) state.weights = std::exchange(state.squares, {});
    if (!request.exact) return {};
    // Of a mask the sum of the weights is `count`; without a weight there is none.
    for (int i = 0; i < PartialSum::kLimbs; ++i) {
      const uint64_t weights = result.limbs[PartialSum::kLimbs + i];
      target.limbs[i] = request.weights_only ? 0 : result.limbs[i];
      target.limbs[PartialSum::kLimbs + i] = a.weighted ? weights : 0;
    }
    return {};
  }

 private:
  Status launch(Kernel kernel, Grid grid, const void* arguments) {
    const char* error = driver_.launch(kernel, grid, arguments, options_.stream);
    return error == nullptr ? Status() : Status::error(Code::kDevice, "CUDA: the launch failed: %s", error);
  }
  Status zero(uint64_t address, size_t bytes) {
    const char* error = driver_.zero(reinterpret_cast<void*>(address), bytes, options_.stream);
    return error == nullptr ? Status() : Status::error(Code::kDevice, "CUDA: the launch failed: %s", error);
  }

  static int compute_index(const Plan& plan) { return plan.dtype == DType::kFloat64; }

  Status elementwise(const Plan& plan, const Buffers& buffers, unsigned operands) {
    const bool dense = is_chunked(plan, buffers, operands);
    if (scales_.address == 0 && (dense || has_chunked_rows(plan, buffers, operands))) {
      const DenseArguments a = dense_arguments(plan, buffers, operands);
      constexpr Kernel kFirst[2][3] = {{kRowsGrad, kRowsLoss, kRowsGradAndLoss},
                                       {kDenseGrad, kDenseLoss, kDenseGradAndLoss}};
      const Kernel first = kFirst[dense][static_cast<int>(plan.op)];
      const int64_t chunks = a.numel * size_of(plan.dtype) / kChunkBytes;
      return launch(static_cast<Kernel>(first + static_cast<int>(plan.dtype)),
                    {blocks_for(device_, (chunks + kBlockElements - 1) / kBlockElements), 1}, &a);
    }
    const ElementArguments a = element_arguments(plan, buffers, operands, scales_);
    if (TileArguments tile; tile_arguments(a, &tile)) {
      return launch(static_cast<Kernel>(kTile + compute_index(plan)), {blocks_for(device_, tile.tiles), 1},
                    &tile);
    }
    return launch(static_cast<Kernel>(kGeneral + compute_index(plan)),
                  {blocks_for(device_, (plan.numel + kBlockElements - 1) / kBlockElements), 1}, &a);
  }

  static int sum_kernel(const Plan& plan, const Buffers& buffers, unsigned operands, bool fused,
                        SumArguments* a) {
    // dense_sum() adds squares of narrower operands in one float64, which does not suffice for a float64
    // result; general_sum() adds in pairs of them.
    const bool narrow =
        a->kind == Result::kLoss && plan.loss_dtype == DType::kFloat64 && plan.dtype != DType::kFloat64;
    if (narrow || a->element.view[kScaleView].address != 0 || !is_chunked(plan, buffers, operands)) {
      return kGeneralSum + compute_index(plan);
    }
    a->dense = dense_arguments(plan, buffers, operands);
    return (fused ? kDenseGradAndSum : kDenseSum) + static_cast<int>(plan.dtype);
  }

  // Computes 2 / sum(w) of a mean with weights, for each slice.
  Status sum_weights(const Plan& plan, const Buffers& buffers) {
    const int64_t slices = plan.sliced ? plan.slices : 1;
    Scales scales;
    if (Status status = scratch_.allocate(static_cast<size_t>(slices) * sizeof(double), &scales.address);
        !status.ok()) {
      return status;
    }
    int64_t dense = sizeof(double);
    for (int d = plan.rank; plan.sliced && d-- > 0;) {
      if (is_reduced(plan, d)) continue;
      scales.stride[d] = dense;
      dense *= plan.extent[d];
    }
    SumArguments a{};
    a.element = element_arguments(plan, buffers, 1U << kWeight, {});
    a.kind = Result::kScale;
    a.weights_only = true;
    set_result(plan, scales.address, DType::kFloat64, scales.stride, &a);
    if (Status status = enqueue_sum(plan, &a, kGeneralSum + compute_index(plan)); !status.ok()) return status;
    scales_ = scales;
    return {};
  }

  Status run_sum(const Plan& plan, const Buffers& buffers) {
    if (plan.sliced && plan.slices == 0) return {};
    const bool grad = plan.op == Op::kLossAndGrad;
    // An exact sweep needs unmodified inputs, so a gradient that overwrites one is computed after the loss.
    const bool fused = grad && !is_in_place(buffers) && !options_.exact && plan.numel != 0;
    unsigned operands = plan.operands & (1U << kInput | 1U << kTarget | 1U << kWeight);
    if (fused) operands |= 1U << kGradOutput | 1U << kOut;
    SumArguments a{};
    a.element = element_arguments(plan, buffers, operands, fused ? scales_ : Scales{});
    a.kind = Result::kLoss;
    const int result = plan.sliced ? kLossOut : loss_operand(plan);
    const int size = size_of(plan.loss_dtype);
    int64_t strides[kMaxRank] = {};
    for (int d = 0; plan.sliced && d < plan.rank; ++d) strides[d] = plan.stride[kLossOut][d] * size;
    const int64_t offset = plan.sliced ? plan.offset[kLossOut] * size : 0;
    set_result(plan, reinterpret_cast<uintptr_t>(buffers[result]) + static_cast<uint64_t>(offset),
               plan.loss_dtype, strides, &a);
    const int kernel = sum_kernel(plan, buffers, operands, fused, &a);
    if (Status status = enqueue_sum(plan, &a, kernel); !status.ok()) return status;
    if (!grad || fused || plan.numel == 0) return {};
    const Plan gradient = grad_plan(plan);
    return elementwise(gradient, buffers, gradient.operands);
  }

  // `strides` are in bytes, by dimension of the plan.
  static void set_result(const Plan& plan, uint64_t address, DType dtype, const int64_t* strides,
                         SumArguments* a) {
    a->result = {address, {}, dtype, address % static_cast<unsigned>(size_of(dtype)) == 0};
    int kept = 0;
    for (int d = 0; plan.sliced && d < plan.rank; ++d) {
      if (plan.numel == 0 || !is_reduced(plan, d)) a->result.stride[kept++] = strides[d];
    }
    a->reduction = plan.reduction;
    a->weighted = has(plan, kWeight) && !is_masked(plan);
  }

  // The fast sweep and the exact one for what it leaves undecided.
  Status enqueue_sum(const Plan& plan, SumArguments* a, int kernel) {
    const Nest& nest = a->element.nest;
    a->always = options_.exact || plan.numel == 0;  // else a state is that of the fast sweep
    const bool fast_only = a->kind == Result::kState && !a->always;
    const uint32_t exact_parts = fast_only ? 1 : shape_exact_sum(device_, nest, &a->exact_per_part);
    const size_t digits = static_cast<size_t>(nest.slices) * kDigitWords * sizeof(uint64_t);
    uint32_t parts = 1;
    if (!a->always) {
      const bool columns = plan.sliced && plan.rank > 0 && !is_reduced(plan, plan.rank - 1);
      parts = kernel < kGeneralSum
                  ? shape_dense_sum(device_, a->dense, kChunkBytes / size_of(plan.dtype), &a->shape)
                  : shape_sum(device_, nest, columns, &a->shape);
    }
    const size_t tickets = static_cast<size_t>(a->shape.groups) * sizeof(uint32_t);
    if (exact_parts > 1) {
      if (Status status = scratch_.allocate(digits, &a->digits); !status.ok()) return status;
    }
    if (parts > 1) {
      const size_t partials = static_cast<size_t>(nest.slices) * parts * kTermDoubles * sizeof(double);
      if (Status status = scratch_.allocate(partials, &a->partials); !status.ok()) return status;
      if (Status status = scratch_.allocate(tickets, &a->tickets); !status.ok()) return status;
      if (Status status = zero(a->tickets, tickets); !status.ok()) return status;
    }
    if (a->always) {
      if (exact_parts > 1) {
        if (Status status = zero(a->digits, digits); !status.ok()) return status;
      }
    } else if (Status status =
                   launch(static_cast<Kernel>(kernel), {blocks_for(device_, a->shape.groups), parts}, a);
               !status.ok() || fast_only) {
      return status;
    }
    return launch(static_cast<Kernel>(kExactSum + compute_index(plan)),
                  {blocks_for(device_, nest.slices), exact_parts}, a);
  }

  const Driver& driver_;
  const DeviceInfo& device_;
  const Options& options_;
  Scratch scratch_;
  Scales scales_;
};

// The operands whose memory a call accesses.
unsigned accessed(const Plan& plan) {
  unsigned operands = plan.numel != 0 ? plan.operands : 0;
  if (has_sum(plan)) operands |= 1U << loss_operand(plan);
  return operands;
}

// The name of the operand whose memory the device cannot access; null if it can access all.
const char* inaccessible(const Driver& driver, unsigned operands, const Buffers& buffers) {
  for (int o = 0; o < kOperands; ++o) {
    if ((operands >> o & 1) != 0 && buffers[o] != nullptr && !driver.accessible(buffers[o]))
      return kNames.of[o];
  }
  return nullptr;
}

// Calls run(call) with the device of `options` current.
template <class Run>
Status with_device(const Driver& driver, unsigned operands, const Buffers& buffers, const Options& options,
                   Run run) {
  const CurrentDevice current(driver, options.device_index);
  if (current.error() != nullptr) {
    return Status::error(Code::kDevice, "device: expected a CUDA device%s, got \"%s\"",
                         options.device_index < 0 ? "" : " of this index", current.error());
  }
  if (const char* operand = inaccessible(driver, operands, buffers)) {
    return Status::error(Code::kDevice,
                         "%s: expected memory that CUDA device %d can access, got an address of the host",
                         operand, current.info().index);
  }
  Call call(driver, current.info(), options);
  return run(call);
}

}  // namespace

Status enqueue(const Driver& driver, const Plan& plan, const Buffers& buffers, const Options& options) {
  return with_device(driver, accessed(plan), buffers, options,
                     [&](Call& call) { return call.run(plan, buffers); });
}

unsigned operands_of(const Plan& plan, const SumRequest& request) {
  if (request.weights_only) return 1U << kWeight;
  const unsigned inputs = plan.operands & (1U << kInput | 1U << kTarget | 1U << kWeight);
  return plan.op == Op::kLossAndGrad ? inputs | 1U << kGradOutput | 1U << kOut : inputs;
}

Status sum(const Driver& driver, const Plan& plan, const Buffers& buffers, const SumRequest& request,
           const Options& options, const SumTarget& target) {
  if (plan.numel == 0) return {};
  const unsigned operands = operands_of(plan, request);
  Options exact = options;
  exact.exact = request.exact;
  return with_device(driver, operands, buffers, exact,
                     [&](Call& call) { return call.fetch_sum(plan, buffers, request, operands, target); });
}

Status copy(const Driver& driver, void* to, const void* from, size_t bytes, bool wait,
            const Options& options) {
  return with_device(driver, 0, {}, options, [&](Call& call) { return call.copy(to, from, bytes, wait); });
}

}  // namespace mseloss::cuda
