// What the handlers of mseloss.jax have in common: the operands of a call, and its frame.
#pragma once

#include <algorithm>
#include <utility>

#include "jax/blocks.h"
#include "jax/xla_ffi.h"
#include "mseloss/mseloss.h"

namespace mseloss::python {

using In = xla::Buffer;
using Out = xla::Buffer;

// The operands of a loss; `weight` is null if the call has none.
struct Inputs {
  const In& input;
  const In& target;
  const In* weight;
};

// The operands of one call in blocks. An operand that the call does not have is a scalar, which changes
// nothing.
class Call {
 public:
  // `sums`: the loss has an element for each slice that is summed; else it is elementwise.
  Call(const Inputs& in, bool sums, const Operand& loss, const Operand& gradient = {},
       const Operand& grad_output = {})
      : weighted_(in.weight != nullptr),
        operands_{in.input, in.target, weighted_ ? Operand(*in.weight) : Operand(),
                  loss,     gradient,  grad_output},
        blocks_(operands_, sums ? kLoss : -1) {}

  bool weighted() const { return weighted_; }
  bool empty() const { return blocks_.empty(); }
  int64_t count() const { return blocks_.count(); }
  int64_t blocks_per_slice() const { return blocks_.blocks_per_slice(); }

  Tensor input(int64_t block) const { return blocks_.tensor(block, kInput); }
  Tensor full_input(int64_t block) const { return blocks_.tensor(block, kInput, true); }
  Tensor target(int64_t block) const { return blocks_.tensor(block, kTarget); }
  Tensor weight(int64_t block) const { return blocks_.tensor(block, kWeight); }
  Tensor full_weight(int64_t block) const { return blocks_.tensor(block, kWeight, true); }
  Tensor loss(int64_t block) const { return blocks_.tensor(block, kLoss); }
  Tensor gradient(int64_t block) const { return blocks_.tensor(block, kGradient); }
  Tensor grad_output(int64_t block) const { return blocks_.tensor(block, kGradOutput); }

  // Calls f(block) until one fails.
  template <class F>
  Status each_block(F f) const {
    Status status;
    for (int64_t i = 0; i < count() && status.ok(); ++i) status = f(i);
    return status;
  }

 private:
  enum Index { kInput, kTarget, kWeight, kLoss, kGradient, kGradOutput, kCount };

  bool weighted_;
  Operand operands_[kCount];
  Blocks blocks_;
};

// Which elements of a gradient belong to one slice. vmap may have put dimensions in front of the last `rank`,
// which are not summed, nor are those of the last `rank` whose bit is set in `kept`.
struct Slices {
  int64_t rank, kept;

  bool sums(size_t dimension, size_t total) const {
    const int64_t own = static_cast<int64_t>(dimension) - (static_cast<int64_t>(total) - rank);
    return own >= 0 && !(kept >> own & 1);
  }
  int64_t elements(std::span<const int64_t> shape) const {
    int64_t count = 1;
    for (size_t i = 0; i < shape.size(); ++i) count *= sums(i, shape.size()) ? shape[i] : 1;
    return count;
  }
};

inline xla::Error* error(const xla::Frame& frame, xla::Code code, const char* message) {
  xla::ErrorArguments arguments{sizeof arguments, nullptr, message, code};
  return frame.api->create_error(&arguments);
}

// XLA queries the metadata once, at registration. The answer is the older of the two versions. In version 0.1
// the query has no `api`.
inline xla::Error* answer_metadata(const xla::Frame& frame) {
  xla::Metadata& metadata = *reinterpret_cast<xla::MetadataExtension*>(frame.extensions)->metadata;
  const int minor = frame.api == nullptr ? 1 : std::min(frame.api->version.minor, xla::kMinor);
  metadata.version = {sizeof(xla::Version), nullptr, xla::kMajor, minor};
  metadata.traits = 0;
  return nullptr;
}

inline int64_t value_of(const xla::Scalar& scalar) {
  if (scalar.dtype == xla::Type::kBool) return *static_cast<const bool*>(scalar.value);
  return *static_cast<const int64_t*>(scalar.value);
}

// Calls `function` with the frame's operands, its results and its attributes, which XLA sorts by name.
// The first kFirst operands are passed one by one; input, target and possibly weight, as Inputs,
// follow unless kPlain.
template <size_t kFirst, bool kPlain, size_t kResults, size_t kAttributes, class Function>
xla::Error* call(const xla::Frame& frame, Function function) {
  if (frame.extensions != nullptr && frame.extensions->type == xla::kMetadata) return answer_metadata(frame);
  const auto& attributes = frame.attributes;
  const auto operands = static_cast<size_t>(frame.operands.size);
  const bool fits = kPlain ? operands == kFirst : operands == kFirst + 2 || operands == kFirst + 3;
  if (frame.stage != xla::Stage::kExecute || !fits || frame.results.size != kResults ||
      attributes.size != kAttributes ||
      std::any_of(attributes.kinds, attributes.kinds + kAttributes,
                  [](uint32_t kind) { return kind != xla::kScalar; })) {
    return error(frame, xla::Code::kInternal,
                 "mseloss: unexpected operands or attributes: only mseloss.jax may call this handler");
  }
  const Status status = [&]<size_t... I, size_t... O, size_t... A>(
      std::index_sequence<I...>, std::index_sequence<O...>, std::index_sequence<A...>) {
    const auto& items = frame.operands.items;
    if constexpr (kPlain) {
      return function(*items[I]..., *frame.results.items[O]..., value_of(*attributes.items[A])...);
    } else {
      const Inputs in{*items[kFirst], *items[kFirst + 1],
                      operands == kFirst + 3 ? items[kFirst + 2] : nullptr};
      return function(*items[I]..., in, *frame.results.items[O]..., value_of(*attributes.items[A])...);
    }
  }
  (std::make_index_sequence<kFirst>(), std::make_index_sequence<kResults>(),
   std::make_index_sequence<kAttributes>());
  if (status.ok()) return nullptr;
  const bool memory = status.code() == Code::kOutOfMemory;
  return error(frame, memory ? xla::Code::kResourceExhausted : xla::Code::kInvalidArgument, status.message());
}

}  // namespace mseloss::python
