// The CPU handlers of mseloss.jax for XLA's foreign function interface (FFI): they convert buffers to views,
// call the library and return its Status.
//
// XLA's arrays are dense and row-major. mseloss/jax/ defines the operands and checks shapes and dtypes.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "arrays/dtypes.h"
#include "arrays/result_array.h"
#include "jax/xla_ffi.h"
#include "module/grad_part.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {
namespace {

using In = xla::Buffer;
using Out = xla::Buffer;

DType dtype_of(const xla::Buffer& buffer) {
  switch (buffer.dtype) {
    case xla::Type::kF16:
      return DType::kFloat16;
    case xla::Type::kBF16:
      return DType::kBFloat16;
    case xla::Type::kF64:
      return DType::kFloat64;
    default:
      return DType::kFloat32;
  }
}

std::span<const int64_t> shape_of(const xla::Buffer& buffer) {
  return {buffer.dims, static_cast<size_t>(buffer.rank)};
}

int64_t count_of(const xla::Buffer& buffer) { return element_count(shape_of(buffer)); }

size_t bytes_of(const xla::Buffer& buffer) {
  return static_cast<size_t>(count_of(buffer)) * size_of(dtype_of(buffer));
}

ConstTensor view(const In& buffer) { return {buffer.data, dtype_of(buffer), shape_of(buffer)}; }

Tensor mutable_view(Out& buffer) { return {buffer.data, dtype_of(buffer), shape_of(buffer)}; }

// XLA takes results from malloc, and glibc maps every block of 32 MiB or more anew, so all pages fault on the
// first write. Huge pages cut that cost to a fifth (256 MiB: from 110 ms to 20 ms).
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

bool is_one(const In& scalar) {
  const DType dtype = dtype_of(scalar);
  return count_of(scalar) == 1 && std::memcmp(scalar.data, one_of(dtype).data, size_of(dtype)) == 0;
}

Status loss(const In& input, const In& target, Out& out, int64_t reduction) {
  prefer_huge_pages(out);
  return mseloss::loss(view(input), view(target), static_cast<Reduction>(reduction), mutable_view(out));
}

Status loss_and_grad(const In& input, const In& target, Out& loss, Out& grad_input, int64_t reduction) {
  prefer_huge_pages(grad_input);
  const DType dtype = dtype_of(input);
  return mseloss::loss_and_grad(view(input), view(target), static_cast<Reduction>(reduction), one_of(dtype),
                                mutable_view(loss), mutable_view(grad_input));
}

// See grad_part() for `count`.
Status grad(const In& grad_output, const In& input, const In& target, Out& out, int64_t count) {
  prefer_huge_pages(out);
  return grad_part(view(grad_output), view(input), view(target), count, mutable_view(out));
}

// `stored` is the gradient for a grad_output of 1; XLA usually gives `out` the same memory. For any other
// grad_output the gradient is computed anew: scaling one that a half type has rounded would not be exact.
Status finish_grad(const In& stored, const In& grad_output, const In& input, const In& target, Out& out,
                   int64_t count) {
  if (!is_one(grad_output)) return grad(grad_output, input, target, out, count);
  if (stored.data != out.data) std::memcpy(out.data, stored.data, bytes_of(stored));
  return {};
}

// The PartialSum of this device's shard, as 32-bit words.
Status partial(const In& input, const In& target, Out& words, int64_t exact) {
  PartialSum sum;
  const Status status =
      sum.add(view(input), view(target), exact != 0 ? PartialSum::Mode::kExact : PartialSum::Mode::kFast);
  if (status.ok()) std::memcpy(words.data, &sum, sizeof sum);
  return status;
}

// The loss from the PartialSums of all devices. `decided` is false, and the loss 0, if they leave its
// rounding undecided.
Status finish(const In& words, Out& out, Out& decided, int64_t reduction) {
  PartialSum total;
  const auto* part = static_cast<const char*>(words.data);
  const size_t bytes = static_cast<size_t>(count_of(words)) * 4;
  for (size_t at = 0; at + sizeof(PartialSum) <= bytes; at += sizeof(PartialSum)) {
    PartialSum one;
    std::memcpy(static_cast<void*>(&one), part + at, sizeof one);
    total.merge(one);
  }
  std::memset(out.data, 0, bytes_of(out));
  const bool done = total.finish(static_cast<Reduction>(reduction), dtype_of(out), out.data);
  std::memcpy(decided.data, &done, 1);
  return {};
}

xla::Error* error(const xla::Frame& frame, xla::Code code, const char* message) {
  xla::ErrorArguments arguments{sizeof arguments, nullptr, message, code};
  return frame.api->create_error(&arguments);
}

// XLA queries the metadata once, at registration. The answer is the older of the two versions. In version 0.1
// the query has no `api`.
xla::Error* answer_metadata(const xla::Frame& frame) {
  xla::Metadata& metadata = *reinterpret_cast<xla::MetadataExtension*>(frame.extensions)->metadata;
  const int minor = frame.api == nullptr ? 1 : std::min(frame.api->version.minor, xla::kMinor);
  metadata.version = {sizeof(xla::Version), nullptr, xla::kMajor, minor};
  metadata.traits = 0;
  return nullptr;
}

int64_t value_of(const xla::Scalar& scalar) {
  if (scalar.dtype == xla::Type::kBool) return *static_cast<const bool*>(scalar.value);
  return *static_cast<const int64_t*>(scalar.value);
}

// Calls `function` with the frame's operands, its results and its one attribute.
template <size_t kOperands, size_t kResults, class Function>
xla::Error* call(const xla::Frame& frame, Function function) {
  if (frame.extensions != nullptr && frame.extensions->type == xla::kMetadata) return answer_metadata(frame);
  if (frame.stage != xla::Stage::kExecute || frame.operands.size != kOperands ||
      frame.results.size != kResults || frame.attributes.size != 1 ||
      frame.attributes.kinds[0] != xla::kScalar) {
    return error(frame, xla::Code::kInternal, "mseloss: a call that mseloss.jax does not make");
  }
  const Status status = [&]<size_t... I, size_t... O>(std::index_sequence<I...>, std::index_sequence<O...>) {
    return function(*frame.operands.items[I]..., *frame.results.items[O]...,
                    value_of(*frame.attributes.items[0]));
  }
  (std::make_index_sequence<kOperands>(), std::make_index_sequence<kResults>());
  if (status.ok()) return nullptr;
  const bool memory = status.code() == Code::kOutOfMemory;
  return error(frame, memory ? xla::Code::kResourceExhausted : xla::Code::kInvalidArgument, status.message());
}

}  // namespace

#define MSELOSS_HANDLER(name, operands, results)            \
  extern "C" __attribute__((visibility("default")))         \
  xla::Error* mseloss_jax_##name(const xla::Frame* frame) { \
    return call<operands, results>(*frame, name);           \
  }

MSELOSS_HANDLER(loss, 2, 1)
MSELOSS_HANDLER(loss_and_grad, 2, 2)
MSELOSS_HANDLER(grad, 3, 1)
MSELOSS_HANDLER(finish_grad, 4, 1)
MSELOSS_HANDLER(partial, 2, 1)
MSELOSS_HANDLER(finish, 1, 2)

}  // namespace mseloss::python

// How many 32-bit words a PartialSum takes in an XLA array.
extern "C" __attribute__((visibility("default"))) int mseloss_jax_partial_words() {
  static_assert(sizeof(mseloss::PartialSum) % 4 == 0);
  return sizeof(mseloss::PartialSum) / 4;
}
