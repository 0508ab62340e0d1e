// The handlers of mseloss.jax for CUDA devices: they enqueue on XLA's stream. The operands are those of the
// CPU's handlers (handlers.cpp).
#include "arrays/dtypes.h"
#include "backend.h"
#include "jax/handler.h"
#include "module/grad_part.h"
#include "numerics/formats.h"

namespace mseloss::python {
namespace {

// Scratch memory of XLA; it may be freed before the work that uses it has run.
class Scratch {
 public:
  explicit Scratch(const xla::Frame& frame) : frame_(frame) {}
  ~Scratch() {
    if (data_ == nullptr) return;
    xla::FreeArguments arguments{sizeof arguments, nullptr, frame_.context, size_, data_};
    discard(frame_, frame_.api->free(&arguments));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  Status allocate(size_t bytes) {
    xla::AllocateArguments arguments{sizeof arguments, nullptr, frame_.context, bytes, 16, nullptr};
    if (xla::Error* error = frame_.api->allocate(&arguments); error != nullptr) {
      discard(frame_, error);
      return Status::error(Code::kOutOfMemory, "scratch: out of device memory (%zu bytes)", bytes);
    }
    size_ = bytes;
    data_ = arguments.data;
    return {};
  }
  void* data() const { return data_; }

  static void discard(const xla::Frame& frame, xla::Error* error) {
    if (error == nullptr) return;
    xla::DestroyArguments arguments{sizeof arguments, nullptr, error};
    frame.api->destroy_error(&arguments);
  }

 private:
  const xla::Frame& frame_;
  size_t size_ = 0;
  void* data_ = nullptr;
};

// One call of a handler on the device that XLA has made current.
class DeviceCall {
 public:
  explicit DeviceCall(const xla::Frame& frame) : frame_(frame) { options_.device = Device::kCuda; }

  Status open() {
    xla::StreamArguments arguments{sizeof arguments, nullptr, frame_.context, nullptr};
    if (frame_.api->struct_size < sizeof(xla::Api)) {
      return Status::error(Code::kDevice, "device: expected a version of XLA with device memory");
    }
    if (xla::Error* error = frame_.api->get_stream(&arguments); error != nullptr) {
      Scratch::discard(frame_, error);
      return Status::error(Code::kDevice, "device: expected a stream from XLA, got none");
    }
    options_.stream = arguments.stream;
    return {};
  }

  Status loss(const Inputs& in, Out& out, int64_t reduction_code) const {
    const auto reduction = static_cast<Reduction>(reduction_code);
    const bool sums = reduction != Reduction::kNone;
    const Call call(in, sums, Operand(out, sums));
    if (sums && call.empty()) return fill_empty(out, reduction);
    if (call.blocks_per_slice() > 1) return too_many_dimensions();
    return call.each_block([&](int64_t i) {
      return call.weighted()
                 ? mseloss::loss(call.input(i), call.target(i), call.weight(i), reduction, call.loss(i),
                                 options_)
                 : mseloss::loss(call.input(i), call.target(i), reduction, call.loss(i), options_);
    });
  }

  Status loss_and_grad(const Inputs& in, Out& value, Out& gradient, int64_t, int64_t,
                       int64_t reduction_code) const {
    const auto reduction = static_cast<Reduction>(reduction_code);
    const bool sums = reduction != Reduction::kNone;
    const Call call(in, sums, Operand(value, sums), gradient);
    if (sums && call.empty()) return fill_empty(value, reduction);
    if (call.blocks_per_slice() > 1) return too_many_dimensions();
    Scratch one(frame_);
    ConstTensor unit = one_of(dtype_of(in.input));
    const auto bytes = static_cast<size_t>(size_of(unit.dtype));
    if (Status status = one.allocate(bytes); !status.ok()) return status;
    if (Status status = device_copy(one.data(), unit.data, bytes, false, options_); !status.ok()) {
      return status;
    }
    unit.data = one.data();
    return call.each_block([&](int64_t i) {
      return call.weighted()
                 ? mseloss::loss_and_grad(call.input(i), call.target(i), call.weight(i), reduction, unit,
                                          call.loss(i), call.gradient(i), options_)
                 : mseloss::loss_and_grad(call.input(i), call.target(i), reduction, unit, call.loss(i),
                                          call.gradient(i), options_);
    });
  }

  Status grad(const In& grad_output, const Inputs& in, Out& out, int64_t kept, int64_t parts, int64_t rank,
              int64_t reduction) const {
    return gradient(grad_output, in, out, {rank, kept}, parts, static_cast<Reduction>(reduction), false);
  }

  // Where grad_output is one element that is 1, a kernel finds that out and leaves the stored gradient.
  Status finish_grad(const In& stored, const In& grad_output, const Inputs& in, Out& out, int64_t kept,
                     int64_t parts, int64_t rank, int64_t reduction) const {
    return gradient(grad_output, in, out, {rank, kept}, parts, static_cast<Reduction>(reduction),
                    stored.data == out.data);
  }

  // The digits pass through the host, which waits for the device.
  Status partial(const Inputs& in, Out& words, int64_t exact) const {
    PartialSum sum;
    const Call call(in, false, {});
    const auto mode = exact != 0 ? PartialSum::Mode::kExact : PartialSum::Mode::kFast;
    Status status = call.each_block([&](int64_t i) {
      return call.weighted() ? sum.add(call.input(i), call.target(i), call.weight(i), mode, options_)
                             : sum.add(call.input(i), call.target(i), mode, options_);
    });
    const auto count = static_cast<size_t>(count_of(words));
    int32_t digits[kMaxDigits];
    if (status.ok()) status = check_digits(count);
    if (status.ok()) status = sum.encode(dtype_of(in.input), {digits, count});
    return status.ok() ? device_copy(words.data, digits, count * sizeof(int32_t), true, options_) : status;
  }

  Status finish(const In& words, Out& out, Out& decided, int64_t reduction) const {
    uint64_t value = 0;
    return finish_digits(words, out, decided, &value, [&](const PartialSum& total) {
      return total.finish(static_cast<Reduction>(reduction), dtype_of(out), &value);
    });
  }

  Status finish_scale(const In& words, Out& out, Out& decided) const {
    uint64_t value = 0;
    return finish_digits(words, out, decided, &value, [&](PartialSum& total) {
      const SumTarget state = SumAccess::target(&total);
      double scale = 0;
      const bool done = SumAccess::scale(*state.state, state.limbs, 1, dtype_of(out), &scale);
      store_rounded(scale, dtype_of(out), &value);
      return done;
    });
  }

 private:
  static constexpr size_t kMaxDigits = PartialSum::digit_count(DType::kFloat64);

  static Status too_many_dimensions() {
    return Status::error(Code::kRank,
                         "input: expected at most %d dimensions that differ in what is broadcast or summed",
                         kMaxRank);
  }

  // The loss of empty slices, as that of an array of shape (slices, 0).
  Status fill_empty(const Out& out, Reduction reduction) const {
    const int64_t empty[] = {count_of(out), 0}, sums[] = {count_of(out), 1};
    if (empty[0] == 0) return {};
    const ConstTensor nothing{out.data, dtype_of(out), empty};
    return mseloss::loss(nothing, nothing, reduction, {out.data, dtype_of(out), sums}, options_);
  }

  Status gradient(const In& grad_output, const Inputs& in, Out& out, const Slices& slices, int64_t parts,
                  Reduction reduction, bool is_stored) const {
    const bool mean = reduction == Reduction::kMean, weighted = in.weight != nullptr;
    if (count_of(out) == 0) return {};
    if (weighted && mean) return weighted_mean_gradient(grad_output, in, out, slices);
    const Call call(in, false, {}, out, Operand(grad_output, reduction != Reduction::kNone));
    const int64_t count = mean ? parts * slices.elements(shape_of(out)) : 0;
    return call.each_block([&](int64_t i) {
      return weighted ? weighted_grad_part(call.grad_output(i), call.input(i), call.target(i), call.weight(i),
                                           2, call.gradient(i), options_, is_stored)
                      : grad_part(call.grad_output(i), call.input(i), call.target(i), count, call.gradient(i),
                                  options_, is_stored);
    });
  }

  // The core's function computes the loss too, which is dropped.
  Status weighted_mean_gradient(const In& grad_output, const Inputs& in, Out& out,
                                const Slices& slices) const {
    int64_t extents[kMaxSliced];
    const std::span<const int64_t> shape = shape_of(out);
    if (shape.size() > kMaxSliced) return too_many_dimensions();
    size_t bytes = static_cast<size_t>(size_of(dtype_of(out)));
    for (size_t i = 0; i < shape.size(); ++i) {
      extents[i] = slices.sums(i, shape.size()) ? 1 : shape[i];
      bytes *= static_cast<size_t>(extents[i]);
    }
    Scratch dropped(frame_);
    if (Status status = dropped.allocate(bytes); !status.ok()) return status;
    const Call call(in, true, {dropped.data(), dtype_of(out), {extents, shape.size()}}, out,
                    Operand(grad_output, true));
    if (call.blocks_per_slice() > 1) return too_many_dimensions();
    return call.each_block([&](int64_t i) {
      return mseloss::loss_and_grad(call.full_input(i), call.target(i), call.weight(i), Reduction::kMean,
                                    call.grad_output(i), call.loss(i), call.gradient(i), options_);
    });
  }

  static Status check_digits(size_t count) {
    if (count <= kMaxDigits) return {};
    return Status::error(Code::kShape, "digits: expected at most %zu, got %zu", kMaxDigits, count);
  }

  // finish(total) writes *value and returns whether its rounding is decided.
  template <class Finish>
  Status finish_digits(const In& words, Out& out, Out& decided, uint64_t* value, Finish finish) const {
    int32_t digits[kMaxDigits];
    const auto count = static_cast<size_t>(count_of(words));
    if (Status status = check_digits(count); !status.ok()) return status;
    if (Status status = device_copy(digits, words.data, count * sizeof(int32_t), true, options_);
        !status.ok()) {
      return status;
    }
    PartialSum total;
    if (Status status = total.decode({digits, count}); !status.ok()) return status;
    const bool done = finish(total);
    if (Status status = device_copy(out.data, value, bytes_of(out), false, options_); !status.ok()) {
      return status;
    }
    return device_copy(decided.data, &done, 1, true, options_);
  }

  static constexpr size_t kMaxSliced = 64;

  const xla::Frame& frame_;
  Options options_;
};

}  // namespace

#define MSELOSS_CUDA_HANDLER(name, first, plain, results, attributes)                 \
  extern "C" __attribute__((visibility("default")))                                   \
  xla::Error* mseloss_jax_cuda_##name(const xla::Frame* frame) {                      \
    return call<first, plain, results, attributes>(*frame, [&](auto&&... arguments) { \
      DeviceCall device(*frame);                                                      \
      const Status status = device.open();                                            \
      return status.ok() ? device.name(arguments...) : status;                        \
    });                                                                               \
  }

MSELOSS_CUDA_HANDLER(loss, 0, false, 1, 1)
MSELOSS_CUDA_HANDLER(loss_and_grad, 0, false, 2, 3)
MSELOSS_CUDA_HANDLER(grad, 1, false, 1, 4)
MSELOSS_CUDA_HANDLER(finish_grad, 2, false, 1, 4)
MSELOSS_CUDA_HANDLER(partial, 0, false, 1, 1)
MSELOSS_CUDA_HANDLER(finish, 1, true, 2, 1)
MSELOSS_CUDA_HANDLER(finish_scale, 1, true, 2, 0)

}  // namespace mseloss::python
