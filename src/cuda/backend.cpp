// Divides a checked plan into kernel launches. Nothing here waits for the device: whether a fast sum is
// enough is decided there, and the exact sweep that follows it returns at once where it is.
#include <cmath>
#include <limits>

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
    int kernel = kGeneralSum + compute_index(plan);
    // One float64 is too narrow for a result of float64 from narrower operands.
    const bool narrow = plan.loss_dtype == DType::kFloat64 && plan.dtype != DType::kFloat64;
    if (!narrow && a.element.view[kScaleView].address == 0 && is_chunked(plan, buffers, operands)) {
      a.dense = dense_arguments(plan, buffers, operands);
      kernel = (fused ? kDenseGradAndSum : kDenseSum) + static_cast<int>(plan.dtype);
    }
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
    a->always = options_.exact || plan.numel == 0;
    const uint32_t exact_parts = shape_exact_sum(device_, nest, &a->exact_per_part);
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
               !status.ok()) {
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

// The name of the operand whose memory the device cannot access; null if it can access all.
const char* inaccessible(const Driver& driver, const Plan& plan, const Buffers& buffers) {
  const Names names;
  const char* const all[kOperands] = {names.grad_output, names.input, names.target,
                                      names.weight,      names.out,   names.loss};
  for (int o = 0; o < kOperands; ++o) {
    const bool used = (has(plan, o) && plan.numel != 0) || (has_sum(plan) && o == loss_operand(plan));
    if (used && buffers[o] != nullptr && !driver.accessible(buffers[o])) return all[o];
  }
  return nullptr;
}

}  // namespace

Status enqueue(const Driver& driver, const Plan& plan, const Buffers& buffers, const Options& options) {
  DeviceInfo device{};
  int previous = 0;
  if (const char* error = driver.enter(options.device_index, &device, &previous)) {
    return Status::error(Code::kDevice, "device: expected a CUDA device%s, got \"%s\"",
                         options.device_index < 0 ? "" : " of this index", error);
  }
  struct Guard {
    const Driver& driver;
    int previous;
    ~Guard() { driver.leave(previous); }
  } guard{driver, previous};
  if (const char* operand = inaccessible(driver, plan, buffers)) {
    return Status::error(Code::kDevice,
                         "%s: expected memory that CUDA device %d can access, got an address of the host",
                         operand, device.index);
  }
  return Call(driver, device, options).run(plan, buffers);
}

}  // namespace mseloss::cuda
