// The types of the API: dtypes, tensors as views of the caller's memory, options and Status.
#ifndef MSELOSS_TYPES_H_
#define MSELOSS_TYPES_H_

#if __cplusplus < 202002L
#error "mseloss needs C++20: compile with -std=c++20 or a later standard"
#include "mseloss needs C++20"  // does not exist; ends the compilation before errors that follow from this one
#endif

#include <cstdint>
#include <span>

#if defined(_WIN32)
#define MSELOSS_API
#else
#define MSELOSS_API __attribute__((visibility("default")))
#endif

namespace mseloss {

inline constexpr int kMaxRank = 8;

enum class DType : uint8_t {
  kFloat32,
  kFloat16,
  kBFloat16,
  kFloat64,
  kBool,  // one byte, non-zero means true; for weights only, as a mask
};
enum class Reduction : uint8_t { kNone, kMean, kSum };

constexpr int size_of(DType dtype) {  // bytes of one element
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : dtype == DType::kBool ? 1 : 2;
}
MSELOSS_API const char* name_of(DType dtype);          // "float32", ...
MSELOSS_API const char* name_of(Reduction reduction);  // "none", ...

namespace internal {
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kFloat64;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::kBool;
};
}  // namespace internal

// A view of memory that the caller owns. `data` is the address of element (0, ..., 0); it needs no alignment
// and may be null if the view has no elements. `shape` and `strides` must outlive the call. An empty shape is
// a 0-dimensional tensor of one element. Strides count elements and may be zero or negative; empty strides
// mean dense and row-major. float*, double* and bool* imply their dtype; for the half types pass (data,
// dtype, shape).
template <class Void>
struct BasicTensor {
  Void* data = nullptr;
  DType dtype = DType::kFloat32;
  std::span<const int64_t> shape;
  std::span<const int64_t> strides;

  BasicTensor() = default;
  BasicTensor(Void* d, DType t, std::span<const int64_t> s = {}, std::span<const int64_t> st = {})
      : data(d), dtype(t), shape(s), strides(st) {}
  template <class T>
  requires requires(T* p) { static_cast<Void*>(p), internal::DTypeOf<T>::value; }
  BasicTensor(T* d, std::span<const int64_t> s = {},
              std::span<const int64_t> st = {})  // NOLINT: implicit on purpose
      : BasicTensor(d, internal::DTypeOf<T>::value, s, st) {}
};
using Tensor = BasicTensor<void>;
struct ConstTensor : BasicTensor<const void> {
  using BasicTensor<const void>::BasicTensor;
  template <class T>
  requires requires(const T* p) { internal::DTypeOf<T>::value; }
  ConstTensor(const T* d, std::span<const int64_t> s = {}, std::span<const int64_t> st = {})  // NOLINT
      : BasicTensor<const void>(d, internal::DTypeOf<T>::value, s, st) {}
  ConstTensor(const Tensor& t) : BasicTensor<const void>(t.data, t.dtype, t.shape, t.strides) {}  // NOLINT
};

struct HostThreads;  // mseloss/threads.h

enum class Device : uint8_t {
  kCpu,   // host memory; calls return when the results are written
  kCuda,  // memory of a CUDA device; calls return when the work is enqueued on Options::stream
};

// Lets the caller of a long call on host memory end it.
struct Interrupt {
  // Called on the calling thread about every 50 ms; true ends the call. Must not throw.
  bool (*requested)(void* context) = nullptr;
  void* context = nullptr;
};

struct Options {
  int threads = 0;  // at most this many; 0: max_threads()
  // How the output is written: through the caches, or with non-temporal stores, which bypass them. kAuto uses
  // non-temporal stores for outputs that are too large for the caches.
  enum class Store : uint8_t { kAuto, kCached, kNonTemporal } store = Store::kAuto;
  bool exact = false;  // sums: start with the exact sweep. The result has the same bits either way.
  const HostThreads* host_threads = nullptr;  // where the threads run; null: as set_host_threads() says
  // Where the operands are. On kCuda all of them, outputs and losses included, are in memory that the device
  // can access. Work is ordered on `stream` (a cudaStream_t; null: the legacy default stream) as any kernel
  // is, and no call waits for it. An error that a call returns means that nothing was written; what fails
  // later, CUDA reports.
  Device device = Device::kCpu;
  int device_index = -1;  // -1: the current CUDA device
  void* stream = nullptr;
  // If not null, the call may end with Code::kInterrupted, within about 10 ms of a request. Its outputs and
  // sums are then incomplete. PartialSum remains as it was.
  const Interrupt* interrupt = nullptr;
};

enum class Code : uint8_t {
  kOk,
  kNullPointer,
  kDType,
  kReduction,
  kRank,
  kShape,
  kOverlap,
  kOutOfMemory,
  kTarget,
  kEnvironment,
  kDigits,
  kCommunication,
  kDevice,
  kInterrupted,
};

// A code and, for errors, a message that names the parameter, what was expected and what was given. The
// message is stored inline, so reporting an error cannot fail.
class [[nodiscard, gnu::visibility("default")]] Status {
 public:
  Status() noexcept { message_[0] = '\0'; }
  [[gnu::format(printf, 2, 3)]] static Status error(Code code, const char* format, ...) noexcept;
  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const char* message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  char message_[447];
};

}  // namespace mseloss

#endif  // MSELOSS_TYPES_H_
