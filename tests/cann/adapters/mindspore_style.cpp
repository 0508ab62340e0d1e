// A caller in the style of MindSpore: every function by dlopen and dlsym, a missing one is an error, and
// executors are kept and re-pointed operand by operand, by index, before each run. Exits with 0 if every
// result is right.
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "library.h"

namespace {

using Shape = std::vector<int64_t>;
using HugeMemInit = int(void*, bool);
using HugeMemRelease = void(void*, bool);

// Memory of the framework's pool.
class DeviceArray {
 public:
  DeviceArray(const Shape& s, float value) : shape(s) {
    size_t count = 1;
    for (const int64_t extent : s) count *= static_cast<size_t>(extent);
    host_.assign(count, value);
    REQUIRE(CANN(aclrtMalloc)(&address, bytes(), ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
    REQUIRE(CANN(aclrtMemcpy)(address, bytes(), host_.data(), bytes(), ACL_MEMCPY_HOST_TO_DEVICE) ==
            ACL_SUCCESS);
  }
  ~DeviceArray() { REQUIRE(CANN(aclrtFree)(address) == ACL_SUCCESS); }
  DeviceArray(const DeviceArray&) = delete;

  const std::vector<float>& to_host(aclrtStream stream) {
    REQUIRE(CANN(aclrtMemcpyAsync)(host_.data(), bytes(), address, bytes(), ACL_MEMCPY_DEVICE_TO_HOST,
                                   stream) == ACL_SUCCESS);
    REQUIRE(CANN(aclrtSynchronizeStreamWithTimeout)(stream, -1) == ACL_SUCCESS);
    return host_;
  }

  const Shape shape;
  void* address = nullptr;

 private:
  size_t bytes() const { return host_.size() * sizeof(float); }
  std::vector<float> host_;
};
using Arrays = std::vector<const DeviceArray*>;

// One operator: its executors by the operands' shapes.
class Kernel {
 public:
  explicit Kernel(std::string name)
      : name_(std::move(name)),
        prepare_name_(name_ + "GetWorkspaceSize"),
        run_(adapters::required<decltype(aclnnMseLoss)>(name_.c_str())),
        init_(adapters::required<HugeMemInit>("InitHugeMemThreadLocal")),
        uninit_(adapters::required<HugeMemRelease>("UnInitHugeMemThreadLocal")),
        release_(adapters::required<HugeMemRelease>("ReleaseHugeMem")) {}
  ~Kernel() {
    for (auto& [shapes, entry] : entries_) {
      REQUIRE(CANN(aclDestroyAclOpExecutor)(entry.executor) == ACLNN_SUCCESS);
      for (aclTensor* tensor : entry.tensors) REQUIRE(CANN(aclDestroyTensor)(tensor) == ACLNN_SUCCESS);
    }
  }

  void launch(const Arrays& inputs, const DeviceArray& output, int64_t reduction, aclrtStream stream) {
    Entry& entry = entry_for(inputs, output, reduction);
    for (size_t i = 0; i < inputs.size(); ++i) {
      REQUIRE(CANN(aclSetInputTensorAddr)(entry.executor, i, entry.tensors[i], inputs[i]->address) ==
              ACLNN_SUCCESS);
    }
    REQUIRE(CANN(aclSetOutputTensorAddr)(entry.executor, 0, entry.tensors.back(), output.address) ==
            ACLNN_SUCCESS);
    REQUIRE(run_(nullptr, entry.workspace, entry.executor, stream) == ACLNN_SUCCESS);
    release_(nullptr, false);
  }
  size_t executors() const { return entries_.size(); }

 private:
  struct Entry {
    uint64_t workspace = 0;
    aclOpExecutor* executor = nullptr;
    std::vector<aclTensor*> tensors;
  };

  static aclTensor* convert(const DeviceArray& array) {
    return CANN(aclCreateTensor)(array.shape.data(), array.shape.size(), ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND,
                                 array.shape.data(), array.shape.size(), nullptr);  // the address comes later
  }

  Entry& entry_for(const Arrays& inputs, const DeviceArray& output, int64_t reduction) {
    std::vector<Shape> key{{reduction}, output.shape};
    for (const DeviceArray* input : inputs) key.push_back(input->shape);
    const auto found = entries_.find(key);
    if (found != entries_.end()) return found->second;
    Entry entry;
    for (const DeviceArray* input : inputs) entry.tensors.push_back(convert(*input));
    entry.tensors.push_back(convert(output));
    const auto& t = entry.tensors;
    REQUIRE(init_(nullptr, false) == 0);
    const aclnnStatus code =
        t.size() == 4
            ? adapters::required<decltype(aclnnMseLossBackwardGetWorkspaceSize)>(prepare_name_.c_str())(
                  t[0], t[1], t[2], reduction, t[3], &entry.workspace, &entry.executor)
            : adapters::required<decltype(aclnnMseLossGetWorkspaceSize)>(prepare_name_.c_str())(
                  t[0], t[1], reduction, t[2], &entry.workspace, &entry.executor);
    REQUIRE(code == ACLNN_SUCCESS);
    uninit_(nullptr, false);
    REQUIRE(CANN(aclSetAclOpExecutorRepeatable)(entry.executor) == ACLNN_SUCCESS);
    return entries_.emplace(key, entry).first->second;
  }

  const std::string name_, prepare_name_;
  decltype(aclnnMseLoss)* const run_;
  HugeMemInit* const init_;
  HugeMemRelease* const uninit_;
  HugeMemRelease* const release_;
  std::map<std::vector<Shape>, Entry> entries_;
};

void train(aclrtStream stream) {
  Kernel loss("aclnnMseLoss"), loss_out("aclnnMseLossOut"), backward("aclnnMseLossBackward");
  for (int step = 1; step <= 20; ++step) {
    const Shape shape{step % 2 ? 4 : 200, 300};
    const float value = static_cast<float>(step);
    const auto count = static_cast<float>(shape[0] * shape[1]);
    const DeviceArray x(shape, value), y(shape, 0), g({}, 1);  // other memory at each step
    DeviceArray total({}, -1), columns({shape[1]}, -1), grad(shape, -1);
    loss.launch({&x, &y}, total, 2, stream);
    loss_out.launch({&x, &y}, columns, 1, stream);
    backward.launch({&g, &x, &y}, grad, 1, stream);
    REQUIRE(total.to_host(stream)[0] == value * value * count);
    REQUIRE(columns.to_host(stream).back() == value * value);
    REQUIRE(grad.to_host(stream).front() == value * (2 / count));
    REQUIRE(grad.to_host(stream).back() == value * (2 / count));
  }
  REQUIRE(loss.executors() == 2 && loss_out.executors() == 2 && backward.executors() == 2);
}

}  // namespace

int main() {
  REQUIRE(CANN(aclInit)(nullptr) == ACL_SUCCESS);
  REQUIRE(CANN(aclnnInit)(nullptr) == ACLNN_SUCCESS);
  std::thread worker([] {  // each worker of the framework has its own stream
    aclrtStream stream = nullptr;
    REQUIRE(CANN(aclrtSetDevice)(0) == ACL_SUCCESS);
    REQUIRE(CANN(aclrtCreateStream)(&stream) == ACL_SUCCESS);
    train(stream);
    REQUIRE(CANN(aclrtDestroyStream)(stream) == ACL_SUCCESS);
    REQUIRE(CANN(aclrtResetDevice)(0) == ACL_SUCCESS);
  });
  worker.join();
  REQUIRE(CANN(aclnnFinalize)() == ACLNN_SUCCESS);
  REQUIRE(CANN(aclFinalize)() == ACL_SUCCESS);
  std::puts("ok");
  return 0;
}
