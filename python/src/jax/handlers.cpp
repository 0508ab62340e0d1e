// The CPU handlers of mseloss.jax for XLA's foreign function interface (FFI): they convert buffers to views,
// call the library and return its Status.
//
// mseloss/jax/ defines the operands and checks shapes and dtypes.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "arrays/dtypes.h"
#include "arrays/result_array.h"
#include "jax/dense.h"
#include "jax/handler.h"
#include "module/grad_part.h"
#include "mseloss/mseloss.h"
#include "numerics/formats.h"
#include "numerics/scale.h"
#include "numerics/sum_access.h"

namespace mseloss::python {
namespace {

// XLA allocates results with malloc, and glibc maps new pages for every block of 32 MiB or more, which fault
// on the first write. Huge pages cut that cost to a fifth (256 MiB: from 110 ms to 20 ms).
void prefer_huge_pages(const Out& buffer) {
#ifdef MADV_HUGEPAGE
  constexpr size_t kMapped = size_t{32} << 20, kHugePage = size_t{2} << 20;
  const size_t bytes = bytes_of(buffer), begin = reinterpret_cast<size_t>(buffer.data);
  if (bytes < kMapped) return;
  const size_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const size_t last = (begin + bytes) / kHugePage * kHugePage;
  madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // a hint; may be refused
#endif
}

bool is_one(const In& array) {
  const DType dtype = dtype_of(array);
  const size_t size = static_cast<size_t>(size_of(dtype));
  const auto* element = static_cast<const char*>(array.data);
  for (int64_t i = 0; i < count_of(array); ++i) {
    if (std::memcmp(element + i * size_of(dtype), one_of(dtype).data, size) != 0) return false;
  }
  return true;
}

// Calls add(&sum, block, mode) for `count` blocks from `first` on and finish(&sum), with fast sums and, if
// finish() returns false, with exact ones.
template <class Add, class Finish>
Status sum_until_decided(int64_t first, int64_t count, Add add, Finish finish) {
  for (const auto mode : {PartialSum::Mode::kFast, PartialSum::Mode::kExact}) {
    PartialSum sum;
    for (int64_t i = first; i < first + count; ++i) {
      if (Status status = add(&sum, i, mode); !status.ok()) return status;
    }
    if (finish(&sum)) break;
  }
  return {};
}

Status add(PartialSum* sum, const Call& call, int64_t block, PartialSum::Mode mode) {
  return call.weighted() ? sum->add(call.input(block), call.target(block), call.weight(block), mode)
                         : sum->add(call.input(block), call.target(block), mode);
}

// The loss of empty slices: sum 0, mean NaN.
void fill_empty(const Out& out, Reduction reduction) {
  const DType dtype = dtype_of(out);
  for (int64_t i = 0; i < count_of(out); ++i) {
    PartialSum().finish(reduction, dtype, static_cast<char*>(out.data) + i * size_of(dtype));
  }
}

// Not inline, nor are the others for any shapes: a Call takes several KiB of the stack.
[[gnu::noinline]] Status loss_of_blocks(const Inputs& in, Out& out, Reduction reduction) {
  const bool sums = reduction != Reduction::kNone;
  const Call call(in, sums, Operand(out, sums));
  if (sums && call.empty()) fill_empty(out, reduction);
  const int64_t parts = call.blocks_per_slice();
  return call.each_block([&](int64_t i) {
    const Tensor value = call.loss(i);
    if (parts > 1) {
      if (i % parts != 0) return Status();
      return sum_until_decided(
          i, parts, [&](auto* sum, int64_t block, auto mode) { return add(sum, call, block, mode); },
          [&](auto* sum) { return sum->finish(reduction, value.dtype, value.data); });
    }
    return call.weighted() ? mseloss::loss(call.input(i), call.target(i), call.weight(i), reduction, value)
                           : mseloss::loss(call.input(i), call.target(i), reduction, value);
  });
}

Status loss(const Inputs& in, Out& out, Reduction reduction) {
  prefer_huge_pages(out);
  const bool sums = reduction != Reduction::kNone;
  const int64_t numel = dense_count(in, sums ? in.input : out);
  if (numel == 0 || (sums && out.rank != 0)) return loss_of_blocks(in, out, reduction);
  return run_dense(Op::kLoss, reduction, dtype_of(out), numel,
                   {nullptr, in.input.data, in.target.data, out.data, nullptr}, out.data, 2);
}

Status loss_of(const Inputs& in, Out& out, int64_t reduction) {
  return loss(in, out, static_cast<Reduction>(reduction));
}

// The scale of a mean with weights, from the weights of `count` blocks.
Status mean_scale_of(const Call& call, int64_t first, int64_t count, DType dtype, double* scale) {
  const DType compute = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
  static constexpr double kZero = 0;  // its first bytes are a float32's 0
  const ConstTensor one = one_of(compute), zero{&kZero, compute};
  return sum_until_decided(
      first, count,
      [&](auto* sum, int64_t block, auto mode) { return sum->add(one, zero, call.full_weight(block), mode); },
      [&](auto* sum) {
        const SumTarget state = SumAccess::target(sum);
        return SumAccess::scale(*state.state, state.limbs, 1, compute, scale);
      });
}

Status grad_of_blocks(const Call& call, double scale, int64_t first, int64_t count) {
  Status status;
  for (int64_t i = first; i < first + count && status.ok(); ++i) {
    status = weighted_grad_part(call.grad_output(i), call.input(i), call.target(i), call.weight(i), scale,
                                call.gradient(i));
  }
  return status;
}

// A mean with weights. The core's function for it computes the loss too, which is dropped.
Status weighted_mean_grad(const In& grad_output, const Inputs& in, Out& out, const Slices& slices) {
  if (count_of(out) == 0) return {};
  constexpr size_t kMost = 64;
  int64_t extents[kMost];
  const std::span<const int64_t> shape = shape_of(out);
  if (shape.size() > kMost) {
    return Status::error(Code::kRank, "input: expected at most %zu dimensions with a weight, got %zu", kMost,
                         shape.size());
  }
  for (size_t i = 0; i < shape.size(); ++i) extents[i] = slices.sums(i, shape.size()) ? 1 : shape[i];
  const std::span<const int64_t> loss_shape(extents, shape.size());
  const DType dtype = dtype_of(out);
  const size_t bytes = static_cast<size_t>(element_count(loss_shape)) * size_of(dtype);
  const std::unique_ptr<char[]> dropped(new (std::nothrow) char[bytes]);
  if (dropped == nullptr) return Status::error(Code::kOutOfMemory, "loss: out of memory (%zu bytes)", bytes);
  const Call call(in, true, {dropped.get(), dtype, loss_shape}, out, Operand(grad_output, true));
  const int64_t parts = call.blocks_per_slice();
  return call.each_block([&](int64_t i) {
    if (parts == 1) {
      return mseloss::loss_and_grad(call.full_input(i), call.target(i), call.weight(i), Reduction::kMean,
                                    call.grad_output(i), call.loss(i), call.gradient(i));
    }
    if (i % parts != 0) return Status();
    double scale = 0;
    const Status status = mean_scale_of(call, i, parts, dtype, &scale);
    return status.ok() ? grad_of_blocks(call, scale, i, parts) : status;
  });
}

// A `count` of 0 means a scale of 2, else it is 2 / count.
[[gnu::noinline]] Status grad_of_blocks(const In& grad_output, const Inputs& in, Out& out, int64_t count,
                                        Reduction reduction) {
  const Call call(in, false, {}, out, Operand(grad_output, reduction != Reduction::kNone));
  if (call.weighted()) return grad_of_blocks(call, 2, 0, call.count());
  return call.each_block([&](int64_t i) {
    return grad_part(call.grad_output(i), call.input(i), call.target(i), count, call.gradient(i));
  });
}

// `parts` is the number of devices that hold a part of the arrays, by which a mean divides too.
Status grad(const In& grad_output, const Inputs& in, Out& out, const Slices& slices, int64_t parts,
            Reduction reduction) {
  prefer_huge_pages(out);
  const bool mean = reduction == Reduction::kMean;
  if (in.weight != nullptr && mean) return weighted_mean_grad(grad_output, in, out, slices);
  const int64_t count = mean ? parts * slices.elements(shape_of(out)) : 0;
  const int64_t numel = dense_count(in, out), g_numel = count_of(grad_output);
  if (numel == 0 || (g_numel != 1 && g_numel != numel)) {
    return grad_of_blocks(grad_output, in, out, count, reduction);
  }
  return run_dense(Op::kGrad, reduction, dtype_of(out), numel,
                   {grad_output.data, in.input.data, in.target.data, out.data, nullptr}, nullptr,
                   mean ? mean_scale(dtype_of(out), count) : 2, g_numel != 1);
}

// The attributes of the gradient's handlers are sorted by name, as XLA passes them.
Status grad_of(const In& grad_output, const Inputs& in, Out& out, int64_t kept, int64_t parts, int64_t rank,
               int64_t reduction) {
  return grad(grad_output, in, out, {rank, kept}, parts, static_cast<Reduction>(reduction));
}

// `stored` is the gradient for a grad_output of 1; XLA usually gives `out` the same memory. For any other
// grad_output the gradient is recomputed, because a rounded half-precision gradient cannot be scaled exactly.
Status finish_grad(const In& stored, const In& grad_output, const Inputs& in, Out& out, int64_t kept,
                   int64_t parts, int64_t rank, int64_t reduction) {
  if (!is_one(grad_output)) return grad_of(grad_output, in, out, kept, parts, rank, reduction);
  if (stored.data != out.data) std::memcpy(out.data, stored.data, bytes_of(stored));
  return {};
}

[[gnu::noinline]] Status loss_and_grad_of_blocks(const Inputs& in, Out& value, Out& gradient,
                                                 const Slices& slices, Reduction reduction) {
  const bool sums = reduction != Reduction::kNone;
  const ConstTensor one = one_of(dtype_of(in.input));
  const Call call(in, sums, Operand(value, sums), gradient);
  if (call.blocks_per_slice() > 1) {
    xla::Buffer unit{sizeof unit, nullptr, in.input.dtype, const_cast<void*>(one.data), 0, nullptr};
    const Status status = loss(in, value, reduction);
    return status.ok() ? grad(unit, in, gradient, slices, 1, reduction) : status;
  }
  if (sums && call.empty()) fill_empty(value, reduction);
  return call.each_block([&](int64_t i) {
    return call.weighted() ? mseloss::loss_and_grad(call.input(i), call.target(i), call.weight(i), reduction,
                                                    one, call.loss(i), call.gradient(i))
                           : mseloss::loss_and_grad(call.input(i), call.target(i), reduction, one,
                                                    call.loss(i), call.gradient(i));
  });
}

Status loss_and_grad(const Inputs& in, Out& value, Out& gradient, int64_t kept, int64_t rank,
                     int64_t reduction_code) {
  prefer_huge_pages(gradient);
  const auto reduction = static_cast<Reduction>(reduction_code);
  const int64_t numel = dense_count(in, gradient);
  if (numel == 0 || (reduction != Reduction::kNone && value.rank != 0)) {
    return loss_and_grad_of_blocks(in, value, gradient, {rank, kept}, reduction);
  }
  const DType dtype = dtype_of(gradient);
  return run_dense(Op::kLossAndGrad, reduction, dtype, numel,
                   {one_of(dtype).data, in.input.data, in.target.data, gradient.data, value.data}, value.data,
                   reduction == Reduction::kMean ? mean_scale(dtype, numel) : 2);
}

std::span<int32_t> digits_in(const xla::Buffer& words) {
  return {static_cast<int32_t*>(words.data), static_cast<size_t>(count_of(words))};
}

// The digits of this device's shard.
Status partial(const Inputs& in, Out& words, int64_t exact) {
  PartialSum sum;
  const Call call(in, false, {});
  const auto mode = exact != 0 ? PartialSum::Mode::kExact : PartialSum::Mode::kFast;
  const Status status = call.each_block([&](int64_t i) { return add(&sum, call, i, mode); });
  return status.ok() ? sum.encode(dtype_of(in.input), digits_in(words)) : status;
}

// The loss from the sum of the digits of all devices. `decided` is false, and the loss 0, if it leaves the
// rounding undecided.
Status finish(const In& words, Out& out, Out& decided, int64_t reduction) {
  PartialSum total;
  if (Status status = total.decode(digits_in(words)); !status.ok()) return status;
  std::memset(out.data, 0, bytes_of(out));
  const bool done = total.finish(static_cast<Reduction>(reduction), dtype_of(out), out.data);
  std::memcpy(decided.data, &done, 1);
  return {};
}

// The scale of a mean with weights, in the compute dtype, from the sum of the digits of w * (1 - 0)^2 of all
// devices.
Status finish_scale(const In& words, Out& out, Out& decided) {
  PartialSum total;
  if (Status status = total.decode(digits_in(words)); !status.ok()) return status;
  const SumTarget state = SumAccess::target(&total);
  const DType dtype = dtype_of(out);
  double scale = 0;
  const bool done = SumAccess::scale(*state.state, state.limbs, 1, dtype, &scale);
  store_rounded(scale, dtype, out.data);
  std::memcpy(decided.data, &done, 1);
  return {};
}

}  // namespace

#define MSELOSS_HANDLER(name, function, first, plain, results, attributes) \
  extern "C" __attribute__((visibility("default")))                        \
  xla::Error* mseloss_jax_##name(const xla::Frame* frame) {                \
    return call<first, plain, results, attributes>(*frame, function);      \
  }

MSELOSS_HANDLER(loss, loss_of, 0, false, 1, 1)
MSELOSS_HANDLER(loss_and_grad, loss_and_grad, 0, false, 2, 3)
MSELOSS_HANDLER(grad, grad_of, 1, false, 1, 4)
MSELOSS_HANDLER(finish_grad, finish_grad, 2, false, 1, 4)
MSELOSS_HANDLER(partial, partial, 0, false, 1, 1)
MSELOSS_HANDLER(finish, finish, 1, true, 2, 1)
MSELOSS_HANDLER(finish_scale, finish_scale, 1, true, 2, 0)

}  // namespace mseloss::python
