// What the process around the library may do: fork at any moment, and limit its memory or its threads.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "tests/support/cases.h"

namespace {

using namespace cases;
using mseloss::Code;

constexpr int64_t kCount = 200000;  // enough for several threads

struct Data {
  std::vector<float> x = std::vector<float>(kCount, 3), y = std::vector<float>(kCount, 1), out = x;
  Shape shape{kCount};

  // Whether a gradient and a sum on `threads` threads are right. Code::kOutOfMemory is right too, if
  // `scarce`.
  bool calls_are_right(int threads, bool scarce = false) {
    const float one = 1;
    float sum = 0;
    const Options options{.threads = threads};
    const auto fails = [&](const Status& status) {
      return status.ok() ? false : !scarce || status.code() != Code::kOutOfMemory;
    };
    const Status grad = mseloss::grad(&one, {x.data(), shape}, {y.data(), shape}, Reduction::kSum,
                                      {out.data(), shape}, options);
    const Status loss = mseloss::loss({x.data(), shape}, {y.data(), shape}, Reduction::kSum, &sum, options);
    if (fails(grad) || fails(loss)) return false;
    return (!grad.ok() || (out.front() == 4 && out.back() == 4)) && (!loss.ok() || sum == 4.0f * kCount);
  }
};

int wait_for(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The child of a fork has only the thread that forked, and whatever state the others were in.
TEST(Process, ForkAtAnyMoment_LeavesChildrenThatCanCall) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizers' own locks are not made for threads in the child of a process with threads";
#endif
  std::atomic<bool> done{false}, right{true};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i)
    callers.emplace_back([&, i] {
      Data data;
      while (!done)
        if (!data.calls_are_right(1 + i)) right = false;
    });
  Data data;
  const int forks = static_cast<int>(std::max<uint64_t>(10, case_scale() / 100));
  for (int i = 0; i < forks; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(20);  // a hang ends with a signal
      _exit(data.calls_are_right(1 + i % 4) ? 0 : 1);
    }
    ASSERT_EQ(wait_for(child), 0) << "fork " << i;
    EXPECT_TRUE(i % 10 != 0 || data.calls_are_right(4));
  }
  done = true;
  for (std::thread& each : callers) each.join();
  EXPECT_TRUE(right);
}

// Runs body() in a child with a limit; returns its exit code.
template <class Body>
int with_limit(__rlimit_resource resource, rlim_t limit, Body body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    const rlimit both{limit, limit};
    if (setrlimit(resource, &both) != 0) _exit(3);
    _exit(body());
  }
  return wait_for(child);
}

TEST(Process, LimitOnAddressSpace_GivesOutOfMemoryOrResults) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer needs its own address space";
#endif
  Data data;
  long pages = 0;  // that this process uses now
  FILE* const statm = std::fopen("/proc/self/statm", "r");
  ASSERT_NE(statm, nullptr);
  ASSERT_EQ(std::fscanf(statm, "%ld", &pages), 1);
  std::fclose(statm);
  const rlim_t used = static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
  for (rlim_t more = 0; more < (rlim_t{200} << 20); more = more * 3 / 2 + (64 << 10))
    for (const int threads : {1, 4})
      EXPECT_EQ(
          with_limit(RLIMIT_AS, used + more, [&] { return data.calls_are_right(threads, true) ? 0 : 1; }), 0)
          << more << " bytes more, " << threads << " threads";
}

TEST(Process, LimitOnThreads_GivesResults) {
  constexpr int kNoLimit = 2;
  Data data;
  // RLIMIT_NPROC does not limit root: the child becomes another user first.
  const auto call = [&] {
    if (getuid() == 0 && setuid(65534) != 0) return kNoLimit;
    bool started = true;
    try {
      std::thread([] {}).join();
    } catch (const std::system_error&) {
      started = false;
    }
    if (started) return kNoLimit;
    return data.calls_are_right(4) ? 0 : 1;
  };
  const int code = with_limit(RLIMIT_NPROC, 0, call);
  if (code == kNoLimit) GTEST_SKIP() << "the limit has no effect here";
  EXPECT_EQ(code, 0);
}

}  // namespace
