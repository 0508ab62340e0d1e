// The CPU handlers of mseloss.jax for XLA's foreign function interface (FFI): they convert buffers to views,
// call the library and return its Status.
//
// mseloss/jax/ defines the operands and checks shapes and dtypes.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "arrays/dtypes.h"
#include "arrays/result_array.h"
#include "jax/blocks.h"
#include "jax/xla_ffi.h"
#include "module/grad_part.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {
namespace {

using In = xla::Buffer;
using Out = xla::Buffer;

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

bool is_one(const In& scalar) {
  const DType dtype = dtype_of(scalar);
  return count_of(scalar) == 1 && std::memcmp(scalar.data, one_of(dtype).data, size_of(dtype)) == 0;
}

Status add(PartialSum* sum, const Blocks& operands, PartialSum::Mode mode) {
  Status status;
  for (int64_t i = 0; i < operands.count() && status.ok(); ++i) {
    status = sum->add(operands.tensor(i, 0), operands.tensor(i, 1), mode);
  }
  return status;
}

Status loss(const In& input, const In& target, Out& out, int64_t reduction_code) {
  prefer_huge_pages(out);
  const auto reduction = static_cast<Reduction>(reduction_code);
  Status status;
  if (reduction == Reduction::kNone) {
    const Blocks blocks{&input, &target, &out};
    for (int64_t i = 0; i < blocks.count() && status.ok(); ++i) {
      status = mseloss::loss(blocks.tensor(i, 0), blocks.tensor(i, 1), reduction, blocks.tensor(i, 2));
    }
    return status;
  }
  const Blocks blocks{&input, &target};
  const Tensor value{out.data, dtype_of(out)};
  if (blocks.count() == 1) return mseloss::loss(blocks.tensor(0, 0), blocks.tensor(0, 1), reduction, value);
  for (const auto mode : {PartialSum::Mode::kFast, PartialSum::Mode::kExact}) {
    PartialSum sum;
    status = add(&sum, blocks, mode);
    if (!status.ok() || sum.finish(reduction, value.dtype, value.data)) break;
  }
  return status;
}

// `count`: see grad_part().
Status grad(const In& grad_output, const In& input, const In& target, Out& out, int64_t count) {
  prefer_huge_pages(out);
  const Blocks blocks{&grad_output, &input, &target, &out};
  Status status;
  for (int64_t i = 0; i < blocks.count() && status.ok(); ++i) {
    status =
        grad_part(blocks.tensor(i, 0), blocks.tensor(i, 1), blocks.tensor(i, 2), count, blocks.tensor(i, 3));
  }
  return status;
}

Status loss_and_grad(const In& input, const In& target, Out& value, Out& grad_input, int64_t reduction_code) {
  prefer_huge_pages(grad_input);
  const auto reduction = static_cast<Reduction>(reduction_code);
  const Blocks blocks{&input, &target, &grad_input};
  const ConstTensor one = one_of(dtype_of(input));
  if (blocks.count() == 1) {
    const Tensor result{value.data, dtype_of(value)};
    return mseloss::loss_and_grad(blocks.tensor(0, 0), blocks.tensor(0, 1), reduction, one, result,
                                  blocks.tensor(0, 2));
  }
  const int64_t count = reduction == Reduction::kMean ? count_of(grad_input) : 0;
  Status status = loss(input, target, value, reduction_code);
  for (int64_t i = 0; i < blocks.count() && status.ok(); ++i) {
    status = grad_part(one, blocks.tensor(i, 0), blocks.tensor(i, 1), count, blocks.tensor(i, 2));
  }
  return status;
}

// The count by which a mean divides, for grad_part(): `parts` times the elements of the last `rank`
// dimensions of `out`, in front of which vmap may have put others; 0 if `rank` is negative, for reductions
// without a mean.
int64_t mean_count(const Out& out, int64_t parts, int64_t rank) {
  return rank < 0 ? 0 : parts * element_count(shape_of(out).last(static_cast<size_t>(rank)));
}

Status scaled_grad(const In& grad_output, const In& input, const In& target, Out& out, int64_t parts,
                   int64_t rank) {
  return grad(grad_output, input, target, out, mean_count(out, parts, rank));
}

// `stored` is the gradient for a grad_output of 1; XLA usually gives `out` the same memory. For any other
// grad_output the gradient is recomputed, because a rounded half-precision gradient cannot be scaled exactly.
Status finish_grad(const In& stored, const In& grad_output, const In& input, const In& target, Out& out,
                   int64_t parts, int64_t rank) {
  if (!is_one(grad_output)) return scaled_grad(grad_output, input, target, out, parts, rank);
  if (stored.data != out.data) std::memcpy(out.data, stored.data, bytes_of(stored));
  return {};
}

// The PartialSum of this device's shard, as 32-bit words.
Status partial(const In& input, const In& target, Out& words, int64_t exact) {
  PartialSum sum;
  const Status status =
      add(&sum, Blocks{&input, &target}, exact != 0 ? PartialSum::Mode::kExact : PartialSum::Mode::kFast);
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

// Calls `function` with the frame's operands, its results and its attributes, which XLA sorts by name.
template <size_t kOperands, size_t kResults, size_t kAttributes, class Function>
xla::Error* call(const xla::Frame& frame, Function function) {
  if (frame.extensions != nullptr && frame.extensions->type == xla::kMetadata) return answer_metadata(frame);
  const auto& attributes = frame.attributes;
  if (frame.stage != xla::Stage::kExecute || frame.operands.size != kOperands ||
      frame.results.size != kResults || attributes.size != kAttributes ||
      std::any_of(attributes.kinds, attributes.kinds + kAttributes,
                  [](uint32_t kind) { return kind != xla::kScalar; })) {
    return error(frame, xla::Code::kInternal,
                 "mseloss: unexpected operands or attributes: only mseloss.jax may call this handler");
  }
  const Status status = [&]<size_t... I, size_t... O, size_t... A>(
      std::index_sequence<I...>, std::index_sequence<O...>, std::index_sequence<A...>) {
    return function(*frame.operands.items[I]..., *frame.results.items[O]...,
                    value_of(*attributes.items[A])...);
  }
  (std::make_index_sequence<kOperands>(), std::make_index_sequence<kResults>(),
   std::make_index_sequence<kAttributes>());
  if (status.ok()) return nullptr;
  const bool memory = status.code() == Code::kOutOfMemory;
  return error(frame, memory ? xla::Code::kResourceExhausted : xla::Code::kInvalidArgument, status.message());
}

}  // namespace

#define MSELOSS_HANDLER(name, function, operands, results, attributes) \
  extern "C" __attribute__((visibility("default")))                    \
  xla::Error* mseloss_jax_##name(const xla::Frame* frame) {            \
    return call<operands, results, attributes>(*frame, function);      \
  }

MSELOSS_HANDLER(loss, loss, 2, 1, 1)
MSELOSS_HANDLER(loss_and_grad, loss_and_grad, 2, 2, 1)
MSELOSS_HANDLER(grad, scaled_grad, 3, 1, 2)
MSELOSS_HANDLER(finish_grad, finish_grad, 4, 1, 2)
MSELOSS_HANDLER(partial, partial, 2, 1, 1)
MSELOSS_HANDLER(finish, finish, 1, 2, 1)

}  // namespace mseloss::python

// How many 32-bit words a PartialSum takes in an XLA array.
extern "C" __attribute__((visibility("default"))) int mseloss_jax_partial_words() {
  static_assert(sizeof(mseloss::PartialSum) % 4 == 0);
  return sizeof(mseloss::PartialSum) / 4;
}
