// Fault injection: each allocation and each thread start of both phases fails once. The call returns a code,
// leaks nothing, and the next call works.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

#include "tests/cann/session.h"

namespace {

std::atomic<int64_t> g_live{0};
std::atomic<int64_t> g_countdown{
    -1};  // allocations and thread starts until the failing one; negative: none fails
std::atomic<int64_t> g_failed{0};

bool fails() noexcept {
  const bool its_turn = g_countdown.load() >= 0 && g_countdown.fetch_sub(1) == 0;
  g_failed += its_turn;
  return its_turn;
}

void* allocate(size_t size) noexcept {
  if (fails()) return nullptr;
  void* memory = std::malloc(size);
  if (memory != nullptr) ++g_live;
  return memory;
}

// Not inlined: otherwise GCC warns that free() releases memory from operator new.
[[gnu::noinline]] void release(void* memory) noexcept {
  if (memory != nullptr) --g_live;
  std::free(memory);
}

// Makes allocation or thread start number k of its lifetime fail, counted from 0 over all threads.
struct Failure {
  explicit Failure(int64_t k) : failed_before(g_failed) { g_countdown = k; }
  ~Failure() { g_countdown = -1; }
  bool happened() const { return g_failed != failed_before; }
  const int64_t failed_before;
};

}  // namespace

void* operator new(size_t size) {
  if (void* memory = allocate(size)) return memory;
  throw std::bad_alloc();
}
void* operator new[](size_t size) { return operator new(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, size_t) noexcept { release(memory); }
void operator delete[](void* memory, size_t) noexcept { release(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { release(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { release(memory); }

// Intercepts calls from code linked into this program, not from TBB or the standard library. A thread counts
// as live until it is joined.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*),
                              void* argument) noexcept {
  static const auto real = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  if (fails()) return EAGAIN;
  const int code = real(thread, attributes, body, argument);
  g_live += code == 0;
  return code;
}
extern "C" int pthread_join(pthread_t thread, void** result) {
  static const auto real = reinterpret_cast<decltype(&pthread_join)>(dlsym(RTLD_NEXT, "pthread_join"));
  const int code = real(thread, result);
  g_live -= code == 0;
  return code;
}

namespace {

using cann::expect_message;

class Allocation : public cann::Test {
 protected:
  static constexpr int64_t kCount = 40000;  // too large to run inline
  static constexpr int64_t kNever = 1000;   // more allocations than any call makes
  std::vector<float> x = std::vector<float>(kCount, 3), y = std::vector<float>(kCount, 1), out = y;
  float sum = 0;
  cann::Tensor tx{x.data(), {kCount}}, ty{y.data(), {kCount}}, tout{out.data(), {kCount}}, tsum{&sum, {}};

  aclnnStatus plan(aclOpExecutor** executor) {
    uint64_t workspace;
    return aclnnMseLossBackwardGetWorkspaceSize(tx, tx, ty, 2, tout, &workspace, executor);
  }
  aclnnStatus plan_loss(aclOpExecutor** executor) {
    uint64_t workspace;
    return aclnnMseLossGetWorkspaceSize(tx, ty, 2, tsum, &workspace, executor);
  }

  // Runs one call on a new stream with allocation k failing in the second phase or on the stream. False if
  // the call makes no allocation k.
  template <class Plan, class Run>
  bool fail_and_recover(int64_t k, Plan make, Run run, const float& result, float expected) {
    const int64_t live = g_live;
    bool happened, succeeded;
    {
      cann::Stream own;
      aclOpExecutor* executor = nullptr;
      EXPECT_EQ(make(&executor), ACLNN_SUCCESS);
      const_cast<float&>(result) = -1;
      const Failure failure(k);
      const aclnnStatus code = run(executor, own);
      const aclError end = aclrtSynchronizeStream(own);
      happened = failure.happened();
      succeeded = code == ACLNN_SUCCESS && end == ACL_SUCCESS;
      EXPECT_TRUE(code == ACLNN_SUCCESS || code == ACLNN_ERR_RUNTIME_ERROR) << code;
      EXPECT_TRUE(end == ACL_SUCCESS || end == ACL_ERROR_RT_MEMORY_ALLOCATION) << end;
      EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_ERR_PARAM_INVALID);  // consumed either way
    }
    EXPECT_EQ(result, succeeded ? expected : result);
    EXPECT_TRUE(succeeded || happened);
    EXPECT_TRUE(k == kNever || g_live == live)
        << "allocation " << k << ": " << g_live - live << " blocks and threads leak";
    return happened;
  }

  // The call works, and then with each of its allocations failing once.
  template <class Plan, class Run>
  void fail_each_allocation(Plan make, Run run, const float& result, float expected) {
    fail_and_recover(kNever, make, run, result, expected);  // performs the one-time initialisation
    int64_t k = 0;
    while (k < kNever && fail_and_recover(k, make, run, result, expected)) ++k;
    EXPECT_GE(k, 2) << "the task and its thread";
  }
};

TEST_F(Allocation, PhaseOneWithoutMemory_Is561101AndWritesNothing) {
  // Slots of consumed executors are reused, so the table allocates only when every slot is in use.
  std::vector<aclOpExecutor*> held;
  held.reserve(4096);
  aclnnStatus code = ACLNN_SUCCESS;
  aclOpExecutor* executor = nullptr;
  const int64_t live = g_live;
  {
    const Failure failure(0);
    while (held.size() < 4096 && (code = plan(&executor)) == ACLNN_SUCCESS) held.push_back(executor);
    EXPECT_TRUE(failure.happened());
  }
  EXPECT_EQ(g_live, live);
  EXPECT_EQ(code, ACLNN_ERR_INNER_CREATE_EXECUTOR);
  const std::string text = cann::message();
  EXPECT_NE(text.find("aclnnMseLossBackward: executor: out of memory"), std::string::npos) << text;
  EXPECT_EQ(executor, held.empty() ? nullptr : held.back());
  ASSERT_EQ(plan(&executor), ACLNN_SUCCESS);
  EXPECT_EQ(aclDestroyAclOpExecutor(executor), ACLNN_SUCCESS);
  for (aclOpExecutor* each : held) EXPECT_EQ(aclDestroyAclOpExecutor(each), ACLNN_SUCCESS);
}

TEST_F(Allocation, EveryAllocationOfTheBackwardRun_GivesACodeAndLeaksNothing) {
  const auto make = [&](aclOpExecutor** executor) { return plan(executor); };
  const auto run = [&](aclOpExecutor* executor, aclrtStream s) {
    return aclnnMseLossBackward(nullptr, 0, executor, s);
  };
  fail_each_allocation(make, run, out[kCount - 1], 12);
}

TEST_F(Allocation, EveryAllocationOfTheLossRun_GivesACodeAndLeaksNothing) {
  const auto make = [&](aclOpExecutor** executor) { return plan_loss(executor); };
  const auto run = [&](aclOpExecutor* executor, aclrtStream s) {
    return aclnnMseLoss(nullptr, 0, executor, s);
  };
  fail_each_allocation(make, run, sum, 4 * kCount);
}

TEST_F(Allocation, EveryAllocationOfTheLossOutRun_GivesACodeAndLeaksNothing) {
  constexpr int64_t kRows = 400, kColumns = kCount / kRows;
  float means[kColumns];
  cann::Tensor wide_x(x.data(), {kRows, kColumns}), wide_y(y.data(), {kRows, kColumns}),
      columns(means, {kColumns});
  const auto make = [&](aclOpExecutor** executor) {
    uint64_t workspace;
    return aclnnMseLossOutGetWorkspaceSize(wide_x, wide_y, 1, columns, &workspace, executor);
  };
  const auto run = [&](aclOpExecutor* executor, aclrtStream s) {
    return aclnnMseLossOut(nullptr, 0, executor, s);
  };
  fail_each_allocation(make, run, means[kColumns - 1], 4);
}

TEST_F(Allocation, TinyCallOnAnIdleStream_AllocatesNothing) {
  float a = 3, b = 1, c = -1;
  cann::Tensor ta(&a, {}), tb(&b, {}), tc(&c, {});
  for (int round = 0; round < 2; ++round) {  // the first round may initialise
    const int64_t failed_before = g_failed;
    uint64_t workspace;
    aclOpExecutor* executor = nullptr;
    g_countdown = round == 0 ? -1 : 0;
    EXPECT_EQ(aclnnMseLossBackwardGetWorkspaceSize(ta, ta, tb, 2, tc, &workspace, &executor), ACLNN_SUCCESS);
    EXPECT_EQ(aclnnMseLossBackward(nullptr, 0, executor, stream), ACLNN_SUCCESS);
    EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
    g_countdown = -1;
    EXPECT_EQ(g_failed, failed_before);
    EXPECT_EQ(c, 12);
  }
}

TEST_F(Allocation, HandlesWithoutMemory_AreCodes) {
  const int64_t one = 1;
  const int64_t live = g_live;
  {
    const Failure failure(0);
    EXPECT_EQ(aclCreateTensor(&one, 1, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, &one, 1, &sum), nullptr);
    EXPECT_TRUE(failure.happened());
  }
  EXPECT_NE(cann::message().find("aclCreateTensor: out of memory"), std::string::npos);
  {
    const Failure failure(0);
    void* memory = nullptr;
    EXPECT_EQ(aclrtMalloc(&memory, 8, ACL_MEM_MALLOC_HUGE_FIRST), ACL_ERROR_RT_MEMORY_ALLOCATION);
    EXPECT_TRUE(failure.happened());
  }
  {
    const Failure failure(0);
    int64_t* numbers = nullptr;
    uint64_t count;
    EXPECT_EQ(aclGetViewShape(tx, &numbers, &count), ACLNN_ERR_INNER);
  }
  EXPECT_EQ(g_live, live);
  std::vector<aclrtEvent> events(4096);
  std::vector<aclrtStream> streams(4096);
  size_t made_events = 0, made_streams = 0;
  {
    const Failure failure(0);
    while (made_events < 4096 && aclrtCreateEvent(&events[made_events]) == ACL_SUCCESS) ++made_events;
    EXPECT_TRUE(failure.happened());
  }
  {
    const Failure failure(0);
    while (made_streams < 4096 && aclrtCreateStream(&streams[made_streams]) == ACL_SUCCESS) ++made_streams;
    EXPECT_TRUE(failure.happened());
  }
  for (size_t i = 0; i < made_events; ++i) EXPECT_EQ(aclrtDestroyEvent(events[i]), ACL_SUCCESS);
  for (size_t i = 0; i < made_streams; ++i) EXPECT_EQ(aclrtDestroyStream(streams[i]), ACL_SUCCESS);
}

TEST_F(Allocation, QueuedEventsWithoutMemory_AreCodes) {
  cann::Event gate, other;
  {
    const Failure failure(0);
    EXPECT_EQ(aclrtStreamWaitEvent(stream, gate), ACL_ERROR_RT_MEMORY_ALLOCATION);
  }
  {
    const Failure failure(1);  // the start of the worker thread
    EXPECT_EQ(aclrtStreamWaitEvent(stream, gate), ACL_ERROR_RT_MEMORY_ALLOCATION);
    EXPECT_TRUE(failure.happened());
  }
  EXPECT_EQ(aclrtStreamWaitEvent(stream, gate), ACL_SUCCESS);
  {
    const Failure failure(0);
    EXPECT_EQ(aclrtRecordEvent(other, stream), ACL_ERROR_RT_MEMORY_ALLOCATION);
  }
  EXPECT_EQ(aclrtRecordEvent(gate, nullptr), ACL_SUCCESS);
  EXPECT_EQ(aclrtSynchronizeStream(stream), ACL_SUCCESS);
}

}  // namespace
