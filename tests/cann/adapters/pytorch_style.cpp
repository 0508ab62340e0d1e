// A caller in the style of a PyTorch adapter: every function by dlopen and dlsym, the first phase on the
// thread of the model, the second on the thread of a task queue, workspace hooks around both, executors kept
// for calls with the same shapes. Exits with 0 if every result is right.
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>

#include "library.h"

namespace {

using Shape = std::vector<int64_t>;

// Stands for a framework's tensor: a shape and memory from the framework's allocator.
struct Array {
  Array(Shape s, float value = 0) : shape(std::move(s)) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    data = std::make_shared<std::vector<float>>(count, value);
  }
  Shape shape;
  std::shared_ptr<std::vector<float>> data;
};

aclTensor* convert(const Array& array) {
  Shape strides(array.shape.size(), 1);
  for (size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * array.shape[i];
  aclTensor* tensor =
      CANN(aclCreateTensor)(array.shape.data(), array.shape.size(), ACL_FLOAT, strides.data(), 0,
                            ACL_FORMAT_ND, array.shape.data(), array.shape.size(), array.data->data());
  REQUIRE(tensor != nullptr);
  return tensor;
}

// The hooks of the workspace pool: the adapter calls them only if it finds them.
struct WorkspaceHooks {
  using Init = int(void*, bool);
  using Release = void(void*, bool);
  Init* const init = adapters::optional<Init>("InitHugeMemThreadLocal");
  Release* const uninit = adapters::optional<Release>("UnInitHugeMemThreadLocal");
  Release* const release = adapters::optional<Release>("ReleaseHugeMem");
};
const WorkspaceHooks& hooks() {
  static const WorkspaceHooks found;
  return found;
}

// Runs tasks in order on its own thread.
class TaskQueue {
 public:
  ~TaskQueue() {
    push({});
    worker_.join();
  }
  void push(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tasks_.empty() && !busy_; });
  }

 private:
  void run() {
    REQUIRE(CANN(aclrtSetDevice)(0) == ACL_SUCCESS);
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return !tasks_.empty(); });
      const auto task = std::move(tasks_.front());
      tasks_.pop_front();
      if (!task) break;
      busy_ = true;
      lock.unlock();
      task();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
    lock.unlock();
    REQUIRE(CANN(aclrtResetDevice)(0) == ACL_SUCCESS);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool busy_ = false;
  std::thread worker_{[this] { run(); }};
};

class Adapter {
 public:
  Adapter() {
    REQUIRE(CANN(aclInit)(nullptr) == ACL_SUCCESS);
    REQUIRE(CANN(aclrtSetDevice)(0) == ACL_SUCCESS);
    REQUIRE(CANN(aclrtSetDeviceSatMode)(ACL_RT_OVERFLOW_MODE_INFNAN) == ACL_SUCCESS);
    REQUIRE(CANN(aclrtCreateStreamWithConfig)(&stream_, 0, ACL_STREAM_FAST_LAUNCH | ACL_STREAM_FAST_SYNC) ==
            ACL_SUCCESS);
    queue_ = std::make_unique<TaskQueue>();
  }
  ~Adapter() {
    queue_.reset();
    for (auto& [key, entry] : cache_) {
      REQUIRE(CANN(aclDestroyAclOpExecutor)(entry.executor) == ACLNN_SUCCESS);
      for (aclTensor* tensor : entry.tensors) REQUIRE(CANN(aclDestroyTensor)(tensor) == ACLNN_SUCCESS);
    }
    REQUIRE(CANN(aclrtDestroyStreamForce)(stream_) == ACL_SUCCESS);
    REQUIRE(CANN(aclrtResetDeviceForce)(0) == ACL_SUCCESS);
    REQUIRE(CANN(aclFinalize)() == ACL_SUCCESS);
  }

  // One operator call; `out` is the last of the arrays.
  void call(const std::string& name, int64_t reduction, const std::vector<Array>& arrays) {
    std::vector<aclTensor*> tensors;
    for (const Array& array : arrays) tensors.push_back(convert(array));
    const auto [workspace, executor] = prepare(name, reduction, tensors);
    launch(name, workspace, executor, arrays, [tensors] {
      for (aclTensor* tensor : tensors) REQUIRE(CANN(aclDestroyTensor)(tensor) == ACLNN_SUCCESS);
    });
  }

  // The same with an executor that is kept: a call with known shapes only sets the addresses.
  void call_cached(const std::string& name, int64_t reduction, const std::vector<Array>& arrays) {
    std::vector<Shape> shapes;
    for (const Array& array : arrays) shapes.push_back(array.shape);
    const auto key = std::make_tuple(name, reduction, shapes);
    auto found = cache_.find(key);
    if (found == cache_.end()) {
      Entry entry;
      for (const Array& array : arrays) entry.tensors.push_back(convert(array));
      std::tie(entry.workspace, entry.executor) = prepare(name, reduction, entry.tensors);
      REQUIRE(CANN(aclSetAclOpExecutorRepeatable)(entry.executor) == ACLNN_SUCCESS);
      found = cache_.emplace(key, entry).first;
    }
    const Entry& entry = found->second;
    queue_->push([entry, arrays] {
      for (size_t i = 0; i < arrays.size(); ++i) {
        REQUIRE(CANN(aclSetRawTensorAddr)(entry.tensors[i], arrays[i].data->data()) == ACLNN_SUCCESS);
      }
    });
    launch(name, entry.workspace, entry.executor, arrays, [] {});
  }

  void synchronise() {
    queue_->wait();
    REQUIRE(CANN(aclrtSynchronizeStream)(stream_) == ACL_SUCCESS);
    in_flight_.clear();
  }
  size_t cached() const { return cache_.size(); }

 private:
  using ThreeTensors = decltype(aclnnMseLossGetWorkspaceSize);
  using FourTensors = decltype(aclnnMseLossBackwardGetWorkspaceSize);
  struct Entry {
    uint64_t workspace = 0;
    aclOpExecutor* executor = nullptr;
    std::vector<aclTensor*> tensors;
  };

  std::pair<uint64_t, aclOpExecutor*> prepare(const std::string& name, int64_t reduction,
                                              const std::vector<aclTensor*>& t) {
    if (hooks().init != nullptr) REQUIRE(hooks().init(nullptr, false) == 0);
    const std::string first = name + "GetWorkspaceSize";
    uint64_t workspace = 0;
    aclOpExecutor* executor = nullptr;
    const aclnnStatus code = t.size() == 4 ? adapters::required<FourTensors>(first.c_str())(
                                                 t[0], t[1], t[2], reduction, t[3], &workspace, &executor)
                                           : adapters::required<ThreeTensors>(first.c_str())(
                                                 t[0], t[1], reduction, t[2], &workspace, &executor);
    REQUIRE(code == ACLNN_SUCCESS);
    if (hooks().uninit != nullptr) hooks().uninit(nullptr, false);
    return {workspace, executor};
  }

  template <class Release>
  void launch(const std::string& name, uint64_t workspace_size, aclOpExecutor* executor,
              const std::vector<Array>& arrays, Release release) {
    auto* const run = adapters::required<decltype(aclnnMseLoss)>(name.c_str());
    in_flight_.insert(in_flight_.end(), arrays.begin(), arrays.end());
    queue_->push([=, this] {
      void* workspace = nullptr;
      if (workspace_size != 0) {
        REQUIRE(CANN(aclrtMalloc)(&workspace, workspace_size, ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
      }
      REQUIRE(run(workspace, workspace_size, executor, stream_) == ACLNN_SUCCESS);
      release();
      if (hooks().release != nullptr) hooks().release(nullptr, false);
      if (workspace != nullptr) REQUIRE(CANN(aclrtFree)(workspace) == ACL_SUCCESS);
    });
  }

  aclrtStream stream_ = nullptr;
  std::unique_ptr<TaskQueue> queue_;
  std::map<std::tuple<std::string, int64_t, std::vector<Shape>>, Entry> cache_;
  std::vector<Array> in_flight_;  // memory that queued work uses
};

void train(Adapter& adapter, bool cached) {
  const auto call = [&](const char* name, int64_t reduction, const std::vector<Array>& arrays) {
    cached ? adapter.call_cached(name, reduction, arrays) : adapter.call(name, reduction, arrays);
  };
  for (int step = 1; step <= 20; ++step) {
    for (const Shape& shape : {Shape{4, 8}, Shape{200, 300}}) {  // at once, and on the stream's worker
      const float value = static_cast<float>(step);
      const auto count = static_cast<float>(shape[0] * shape[1]);
      const Array x(shape, value), y(shape), g({}, 1), loss(Shape{}), columns({shape[1]}), grad(shape);
      call("aclnnMseLoss", 1, {x, y, loss});
      call("aclnnMseLossOut", 2, {x, y, columns});
      call("aclnnMseLossBackward", 1, {g, x, y, grad});
      adapter.synchronise();
      REQUIRE((*loss.data)[0] == value * value);
      REQUIRE(columns.data->back() == value * value * static_cast<float>(shape[0]));
      REQUIRE(grad.data->front() == value * (2 / count));
      REQUIRE(grad.data->back() == value * (2 / count));
    }
  }
}

}  // namespace

int main() {
  // Optional parts of an adapter that are absent here.
  for (const char* name : {"PTAGetExecCache", "InitPTACacheThreadLocal", "SetPTAHashKey", "CanUsePTACache"}) {
    REQUIRE(adapters::find(name) == nullptr);
  }
  REQUIRE(hooks().init != nullptr && hooks().uninit != nullptr && hooks().release != nullptr);
  Adapter adapter;
  train(adapter, false);
  train(adapter, true);
  train(adapter, true);
  REQUIRE(adapter.cached() == 6);
  std::puts("ok");
  return 0;
}
