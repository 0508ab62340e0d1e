#include "cuda/staging.h"

#include <cstring>
#include <memory>
#include <new>

#include "cuda/library.h"

namespace mseloss::cuda {
namespace {

// The bytes between an operand's first and last element, relative to its address.
struct Span {
  int64_t low = 0, bytes = 0;
};

Span span_of(const Plan& plan, int operand, DType dtype, bool scalar) {
  const int size = size_of(dtype);
  if (scalar) return {0, size};
  int64_t low = plan.offset[operand] * size, high = low + size;
  for (int d = 0; d < plan.rank; ++d) {
    const int64_t reach = plan.stride[operand][d] * (plan.extent[d] - 1) * size;
    (reach < 0 ? low : high) += reach;
  }
  return {low, high - low};
}

// Copies the elements of a view from one image of its span to another.
void copy_elements(const Plan& plan, int operand, DType dtype, const char* from, char* to) {
  const auto size = static_cast<size_t>(size_of(dtype));
  int64_t index[kMaxRank] = {}, at = plan.offset[operand] * size_of(dtype);
  for (;;) {
    std::memcpy(to + at, from + at, size);
    int d = plan.rank - 1;
    for (; d >= 0; --d) {
      const int64_t stride = plan.stride[operand][d] * size_of(dtype);
      if (stride == 0) continue;  // a reduced dimension of a loss
      at += stride;
      if (++index[d] < plan.extent[d]) break;
      at -= stride * plan.extent[d];
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

class Staging {
 public:
  Staging(const Driver& driver, void* stream) : driver_(driver), stream_(stream) {}
  ~Staging() {
    for (const Image& image : images_) {
      if (image.owned) driver_.release(image.device, stream_);
    }
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  Status run(const Plan& plan, const Buffers& buffers, const Options& options) {
    Buffers device;
    for (int o = 0; o < kOperands; ++o) {
      const bool result = has_sum(plan) && o == (plan.sliced ? kLossOut : loss_operand(plan));
      if (!(result && (!plan.sliced || plan.slices != 0)) && !(has(plan, o) && plan.numel != 0)) continue;
      if (Status status = stage(plan, buffers, o, result); !status.ok()) return status;
      device.data[o] = images_[o].device - images_[o].span.low;
    }
    if (plan.op == Op::kLoss && plan.sliced) device.data[kOut] = device.data[kLossOut];
    if (Status status = enqueue(driver_, plan, device, options); !status.ok()) return status;
    for (const int o : {kOut, kLossOut}) {
      if (images_[o].device == nullptr) continue;
      if (Status status = fetch(plan, buffers, o); !status.ok()) return status;
    }
    return {};
  }

 private:
  struct Image {
    char* device = nullptr;
    Span span;
    DType dtype = DType::kFloat32;
    bool scalar = false;
    bool owned = false;
  };

  static Status failure(const char* error) {
    return Status::error(Code::kDevice, "CUDA: copying an operand failed: %s", error);
  }

  Status stage(const Plan& plan, const Buffers& buffers, int o, bool result) {
    Image& image = images_[o];
    image.dtype = result ? plan.loss_dtype : plan.dtypes[o];
    image.scalar = result && !plan.sliced;
    image.span = span_of(plan, o, image.dtype, image.scalar);
    // A gradient in place shares its operand's image.
    for (int other = 0; o == kOut && !result && other < kOut; ++other) {
      if (buffers[other] == buffers[o] && images_[other].device != nullptr) {
        image.device = images_[other].device;
        return {};
      }
    }
    void* memory = nullptr;
    const auto bytes = static_cast<size_t>(image.span.bytes);
    if (const char* error = driver_.allocate(bytes, stream_, &memory)) {
      return Status::error(Code::kOutOfMemory, "scratch: expected %zu bytes of device memory, got \"%s\"",
                           bytes, error);
    }
    image.device = static_cast<char*>(memory);
    image.owned = true;
    if (o >= kOut) return {};
    const char* error =
        driver_.copy(memory, static_cast<const char*>(buffers[o]) + image.span.low, bytes, stream_);
    return error == nullptr ? Status() : failure(error);
  }

  // Only the elements return to the host: bytes between them may belong to something else.
  Status fetch(const Plan& plan, const Buffers& buffers, int o) {
    const Image& image = images_[o];
    const auto bytes = static_cast<size_t>(image.span.bytes);
    const std::unique_ptr<char[]> copy(new (std::nothrow) char[bytes]);
    if (copy == nullptr)
      return Status::error(Code::kOutOfMemory, "scratch: expected %zu bytes of memory, got none", bytes);
    const char* error = driver_.copy(copy.get(), image.device, bytes, stream_);
    if (error == nullptr) error = driver_.wait(stream_);
    if (error != nullptr) return failure(error);
    char* const host = static_cast<char*>(buffers[o]);
    if (image.scalar) {
      std::memcpy(host, copy.get(), bytes);
    } else {
      copy_elements(plan, o, image.dtype, copy.get() - image.span.low, host);
    }
    return {};
  }

  const Driver& driver_;
  void* stream_;
  Image images_[kOperands];
};

Status run_on_current_device(const Plan& plan, const Buffers& buffers, const Options& options) {
  const Driver* driver = nullptr;
  const Status status = load_driver(&driver);
  return driver == nullptr ? status : run_staged(*driver, plan, buffers, options);
}

}  // namespace

const Backend kHostBackend{"cuda", &run_on_current_device, nullptr, &copy_on_device};

Status run_staged(const Driver& driver, const Plan& plan, const Buffers& buffers, const Options& options) {
  const CurrentDevice current(driver, options.device_index);
  if (current.error() != nullptr) {
    return Status::error(Code::kDevice, "MSELOSS_DEVICE=cuda: expected a CUDA device, got \"%s\"",
                         current.error());
  }
  return Staging(driver, options.stream).run(plan, buffers, options);
}

}  // namespace mseloss::cuda
