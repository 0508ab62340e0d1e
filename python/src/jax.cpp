// XLA's FFI handlers for the processor, behind mseloss.jax: buffers to views, the core's call, its Status
// back.
//
// XLA's arrays are dense and row-major. mseloss/jax.py has the operands' meaning and checks shapes and
// dtypes.
#include <cstring>
#include <string>

#include "mseloss/mseloss.h"
#include "numerics/scale.h"
#include "plan/plan.h"
#include "xla/ffi/api/ffi.h"

namespace mseloss::python {
namespace {

namespace ffi = xla::ffi;
using In = ffi::AnyBuffer;
using Out = ffi::Result<ffi::AnyBuffer>;

ffi::Error answer(const Status& status) {
  if (status.ok()) return ffi::Error::Success();
  const auto code = status.code() == Code::kOutOfMemory ? ffi::ErrorCode::kResourceExhausted
                                                        : ffi::ErrorCode::kInvalidArgument;
  return {code, status.message()};
}

DType dtype_of(const ffi::AnyBuffer& buffer) {
  switch (buffer.element_type()) {
    case ffi::DataType::F16:
      return DType::kFloat16;
    case ffi::DataType::BF16:
      return DType::kBFloat16;
    case ffi::DataType::F64:
      return DType::kFloat64;
    default:
      return DType::kFloat32;
  }
}

std::span<const int64_t> shape_of(const ffi::AnyBuffer& buffer) {
  return {buffer.dimensions().begin(), buffer.dimensions().size()};
}

ConstTensor view(const In& buffer) { return {buffer.untyped_data(), dtype_of(buffer), shape_of(buffer)}; }

Tensor view(Out& buffer) { return {buffer->untyped_data(), dtype_of(*buffer), shape_of(*buffer)}; }

// The number 1 in a dtype.
const void* one_of(DType dtype) {
  static constexpr double float64 = 1;
  static constexpr float float32 = 1;
  static constexpr uint16_t float16 = 0x3c00, bfloat16 = 0x3f80;
  switch (dtype) {
    case DType::kFloat64:
      return &float64;
    case DType::kFloat16:
      return &float16;
    case DType::kBFloat16:
      return &bfloat16;
    default:
      return &float32;
  }
}

bool is_one(const In& scalar) {
  const DType dtype = dtype_of(scalar);
  return scalar.element_count() == 1 &&
         std::memcmp(scalar.untyped_data(), one_of(dtype), size_of(dtype)) == 0;
}

ffi::Error loss(In input, In target, Out out, int64_t reduction) {
  return answer(mseloss::loss(view(input), view(target), static_cast<Reduction>(reduction), view(out)));
}

ffi::Error loss_and_grad(In input, In target, Out loss, Out grad_input, int64_t reduction) {
  const DType dtype = dtype_of(input);
  return answer(mseloss::loss_and_grad(view(input), view(target), static_cast<Reduction>(reduction),
                                       {one_of(dtype), dtype}, view(loss), view(grad_input)));
}

// ((input - target) * scale) * grad_output with scale = 2 / count; 2 for a count of 0.
Status gradient(const In& grad_output, const In& input, const In& target, int64_t count, Out& out) {
  Plan plan;
  const Tensor result = view(out);
  Status status =
      make_grad_plan(view(grad_output), view(input), view(target), Reduction::kSum, result, &plan);
  if (!status.ok()) return status;
  if (count > 0) {
    plan.reduction = Reduction::kMean;
    plan.scale = plan.dtype == DType::kFloat64 ? mean_scale<double>(count) : double{mean_scale<float>(count)};
  }
  const Buffers buffers{grad_output.untyped_data(), input.untyped_data(), target.untyped_data(), result.data,
                        nullptr};
  status = check_buffers(plan, buffers);
  return status.ok() ? mseloss::run(plan, buffers, {}) : status;
}

ffi::Error grad(In grad_output, In input, In target, Out out, int64_t count) {
  return answer(gradient(grad_output, input, target, count, out));
}

// `stored` is the gradient for a grad_output of 1, and usually lies where `out` does. Any other grad_output
// starts from the operands again: a gradient that a half type has rounded cannot be scaled exactly.
ffi::Error finish_grad(In stored, In grad_output, In input, In target, Out out, int64_t count) {
  if (!is_one(grad_output)) return answer(gradient(grad_output, input, target, count, out));
  if (stored.untyped_data() != out->untyped_data()) {
    std::memcpy(out->untyped_data(), stored.untyped_data(), stored.size_bytes());
  }
  return ffi::Error::Success();
}

// A PartialSum of this device's part, as 32-bit words.
ffi::Error partial(In input, In target, Out words, bool exact) {
  if (words->size_bytes() != sizeof(PartialSum)) {
    return ffi::Error::InvalidArgument("words: expected room for one PartialSum");
  }
  PartialSum sum;
  const Status status =
      sum.add(view(input), view(target), exact ? PartialSum::Mode::kExact : PartialSum::Mode::kFast);
  if (status.ok()) std::memcpy(words->untyped_data(), &sum, sizeof sum);
  return answer(status);
}

// The loss from every device's PartialSum, and whether they decide it (if not, it is left 0).
ffi::Error finish(In words, Out out, Out decided, int64_t reduction) {
  PartialSum total;
  const auto* part = static_cast<const char*>(words.untyped_data());
  for (size_t at = 0; at + sizeof(PartialSum) <= words.size_bytes(); at += sizeof(PartialSum)) {
    PartialSum one;
    std::memcpy(static_cast<void*>(&one), part + at, sizeof one);
    total.merge(one);
  }
  std::memset(out->untyped_data(), 0, out->size_bytes());
  const bool done = total.finish(static_cast<Reduction>(reduction), dtype_of(*out), out->untyped_data());
  std::memcpy(decided->untyped_data(), &done, 1);
  return ffi::Error::Success();
}

}  // namespace

#define MSELOSS_HANDLER(name, binding)                          \
  extern "C" __attribute__((visibility("default")))             \
  XLA_FFI_Error* mseloss_jax_##name(XLA_FFI_CallFrame* frame) { \
    static auto* const handler = (binding).To(name).release();  \
    return handler->Call(frame);                                \
  }

MSELOSS_HANDLER(loss, ffi::Ffi::Bind().Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>().Attr<int64_t>("reduction"))
MSELOSS_HANDLER(
    loss_and_grad,
    ffi::Ffi::Bind().Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Attr<int64_t>(
        "reduction"))
MSELOSS_HANDLER(grad,
                ffi::Ffi::Bind().Arg<In>().Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>().Attr<int64_t>("count"))
MSELOSS_HANDLER(
    finish_grad,
    ffi::Ffi::Bind().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>().Attr<int64_t>("count"))
MSELOSS_HANDLER(partial, ffi::Ffi::Bind().Arg<In>().Arg<In>().Ret<ffi::AnyBuffer>().Attr<bool>("exact"))
MSELOSS_HANDLER(
    finish, ffi::Ffi::Bind().Arg<In>().Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Attr<int64_t>("reduction"))

}  // namespace mseloss::python

// How many 32-bit words a PartialSum takes in an XLA array.
extern "C" __attribute__((visibility("default"))) int mseloss_jax_partial_words() {
  static_assert(sizeof(mseloss::PartialSum) % 4 == 0);
  return sizeof(mseloss::PartialSum) / 4;
}
