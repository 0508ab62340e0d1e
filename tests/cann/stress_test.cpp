// 64 threads with 6 streams each, for MSELOSS_STRESS_SECONDS (default 3), and a process that ends or unloads
// the library while streams work.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "tests/cann/session.h"
#include "tests/support/cases.h"

namespace {

using namespace std::chrono_literals;

constexpr int kStreams = 6;

// One thread's work: on each stream gradients of which the next one reads the last one's result, ordered by
// events.
struct Worker {
  static constexpr int64_t kSmall = 64, kLarge = 40000;  // inline, and on the stream's thread
  std::vector<float> g = std::vector<float>(kLarge, 1), x = std::vector<float>(kLarge, 3), y = g;
  std::vector<float> out[kStreams];

  void run(int seed, std::chrono::steady_clock::time_point end, std::atomic<int64_t>* rounds) {
    cases::Random random(static_cast<uint64_t>(seed));
    ASSERT_EQ(aclrtSetDevice(0), ACL_SUCCESS);
    for (auto& each : out) each.assign(kLarge, 0);
    do {
      round(random);
      ++*rounds;
    } while (!testing::Test::HasFailure() && std::chrono::steady_clock::now() < end);
    EXPECT_EQ(aclrtResetDevice(0), ACL_SUCCESS);
  }
  void round(cases::Random& random) {
    std::vector<cann::Stream> streams(kStreams);
    std::vector<cann::Event> events(kStreams);
    const int64_t n = random.chance(70) ? kSmall : kLarge;
    for (int i = 0; i < kStreams; ++i) {
      if (i > 0) {
        ASSERT_EQ(aclrtStreamWaitEvent(streams[i], events[i - 1]), ACL_SUCCESS);
      }
      if (random.chance(20)) std::this_thread::yield();
      std::vector<float>& from = i == 0 ? x : out[i - 1];
      const cann::Tensor tg(g.data(), {n}), tx(from.data(), {n}), ty(y.data(), {n}), to(out[i].data(), {n});
      uint64_t workspace;
      aclOpExecutor* executor = nullptr;
      ASSERT_EQ(aclnnMseLossBackwardGetWorkspaceSize(tg, tx, ty, 2, to, &workspace, &executor),
                ACLNN_SUCCESS);
      ASSERT_EQ(aclnnMseLossBackward(nullptr, 0, executor, streams[i]), ACLNN_SUCCESS);
      ASSERT_EQ(aclrtRecordEvent(events[i], streams[i]), ACL_SUCCESS);
    }
    if (random.chance(20)) return destroy_unfinished(streams);
    ASSERT_EQ(aclrtSynchronizeStream(streams[kStreams - 1]), ACL_SUCCESS);
    float value = 3;
    for (int i = 0; i < kStreams; ++i) {
      value = 2 * (value - 1);  // exact
      ASSERT_EQ(out[i][0], value);
      ASSERT_EQ(out[i][static_cast<size_t>(n) - 1], value);
    }
  }
  // Their order of destruction differs from that of their work.
  static void destroy_unfinished(std::vector<cann::Stream>& streams) {
    for (int i = kStreams; i-- > 0;) {
      EXPECT_EQ(aclrtDestroyStream(streams[i].handle), ACL_SUCCESS);
      EXPECT_EQ(aclrtCreateStream(&streams[i].handle), ACL_SUCCESS);
    }
  }
};

class Stress : public testing::Test {};

TEST_F(Stress, ManyThreadsOnManyStreams_GetTheirResults) {
#if defined(__SANITIZE_THREAD__)
  constexpr int kThreads = 16;
#else
  constexpr int kThreads = 64;
#endif
  const cann::Process process;
  const auto seconds = cases::number_from_environment("MSELOSS_STRESS_SECONDS", 3);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  std::atomic<int64_t> rounds{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([i, end, &rounds] { Worker().run(i, end, &rounds); });
  for (std::thread& each : threads) each.join();
  std::printf("[  STRESS  ] %lld rounds of %d streams on %d threads\n", static_cast<long long>(rounds),
              kStreams, kThreads);
  EXPECT_GE(rounds, kThreads);
}

#if !defined(__SANITIZE_THREAD__) && defined(MSELOSS_LIBRARY)
template <class Function>
Function find(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

// In a child: loads the library, leaves a stream waiting and another one with work, and ends in the given
// way.
int use_and_leave(bool unload, bool by_return) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    void* const library = dlopen(MSELOSS_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) _exit(2);
    aclrtStream waiting = nullptr, working = nullptr;
    aclrtEvent never = nullptr;
    static std::atomic<bool> started{false};
    const aclrtHostFunc work = [](void*) {
      started = true;
      std::this_thread::sleep_for(20ms);
    };
    int code = find<decltype(&aclInit)>(library, "aclInit")(nullptr);
    code |= find<decltype(&aclrtSetDevice)>(library, "aclrtSetDevice")(0);
    code |= find<decltype(&aclrtCreateStream)>(library, "aclrtCreateStream")(&waiting);
    code |= find<decltype(&aclrtCreateStream)>(library, "aclrtCreateStream")(&working);
    code |= find<decltype(&aclrtCreateEvent)>(library, "aclrtCreateEvent")(&never);
    code |= find<decltype(&aclrtStreamWaitEvent)>(library, "aclrtStreamWaitEvent")(waiting, never);
    code |= find<decltype(&aclrtLaunchHostFunc)>(library, "aclrtLaunchHostFunc")(working, work, nullptr);
    if (code != 0) _exit(3);
    while (!started) std::this_thread::yield();
    if (unload && dlclose(library) != 0) _exit(4);
    if (unload) std::this_thread::sleep_for(40ms);  // the stream goes on in the library's code
    if (by_return) std::exit(0);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F(Stress, LibraryUnloadedOrProcessEndedWhileStreamsWork_DoesNoHarm) {
  for (int round = 0; round < 5; ++round)
    for (const bool unload : {false, true})
      for (const bool by_return : {false, true})
        EXPECT_EQ(use_and_leave(unload, by_return), 0) << unload << by_return;
}
#endif

}  // namespace
