// Calls on the threads of a host: same bits, its limits are respected, and late threads are avoided.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "mseloss/threads.h"
#include "tests/support/sums.h"

namespace {

using namespace cases;
using mseloss::HostThreads;

// A host that counts its loops and starts a thread for each index but the first.
struct Host {
  int threads = 4;
  bool alone = false;                 // makes all calls on the calling thread
  bool refuses = false;               // makes no call
  std::chrono::milliseconds late{0};  // before the other threads participate
  std::atomic<int> loops{0}, most{0};

  static bool parallel_for(void* context, int count, void (*task)(void* data, int index), void* data) {
    Host& host = *static_cast<Host*>(context);
    ++host.loops;
    if (host.most < count) host.most = count;
    if (host.refuses) return false;
    std::vector<std::thread> helpers;
    for (int i = 1; i < count; ++i) {
      if (host.alone) {
        task(data, count - i);
      } else {
        helpers.emplace_back([=, &host] {
          std::this_thread::sleep_for(host.late);
          task(data, i);
        });
      }
    }
    task(data, 0);
    for (std::thread& helper : helpers) helper.join();
    return true;
  }
  static int num_threads(void* context) { return static_cast<Host*>(context)->threads; }

  HostThreads table() { return {&parallel_for, &num_threads, this}; }
};

// Dense operands above the size from which several threads pay.
struct Call {
  static constexpr int64_t kElements = 1 << 18;
  std::vector<float> x = std::vector<float>(kElements), y = x, dx = x;
  float loss = 0;
  const int64_t shape[1] = {kElements};

  Call() {
    Random random(7);
    for (float& value : x) value = static_cast<float>(random.unit());
    for (float& value : y) value = static_cast<float>(random.unit());
  }
  void run(const Options& options) {
    const float one = 1;
    const Status status = mseloss::loss_and_grad({x.data(), shape}, {y.data(), shape}, Reduction::kMean, &one,
                                                 &loss, {dx.data(), shape}, options);
    ASSERT_TRUE(status.ok()) << status.message();
  }
};

// A thread without experience of a host, as that is kept for each thread.
template <class F>
void in_new_thread(F f) {
  std::thread(f).join();
}

Options options_with(const HostThreads& threads, int most = 4) {
  Options options;
  options.threads = most;
  options.host_threads = &threads;
  return options;
}

// One loop of the host, and the bits of a call on the library's own threads.
void expect_own_bits(Host& host) {
  Call own, hosted;
  own.run({});
  const HostThreads threads = host.table();
  in_new_thread([&] { hosted.run(options_with(threads)); });
  EXPECT_EQ(host.loops, 1);
  EXPECT_EQ(own.loss, hosted.loss);
  EXPECT_EQ(own.dx, hosted.dx);
}

TEST(HostThreads, RandomOperands_EqualTheOracle) {
  for (const bool alone : {false, true}) {
    Host host;
    host.alone = alone;
    const HostThreads threads = host.table();
    for_each_case(100, [&](Random& random) {
      const DType dtype = random.pick(kDTypes);
      const Shape shape{random.range(100, 400), random.range(100, 400)};
      Operand g(random, dtype, shape, random.pick(kLayouts)), x(random, dtype, shape, random.pick(kLayouts));
      Operand y(random, dtype, shape, random.pick(kLayouts));
      for (Operand* operand : {&g, &x, &y}) operand->fill(random, random.pick(kValues));
      Operand out(random, dtype, oracle::broadcast({g.shape(), x.shape(), y.shape()}), Layout::kDense, true);
      const auto before = out.storage();
      const auto expected = oracle::grad(g.view(), x.view(), y.view(), Reduction::kMean, dtype);
      Status status;
      in_new_thread([&] {
        status = mseloss::grad(g.view(), x.view(), y.view(), Reduction::kMean, out.tensor(),
                               options_with(threads, static_cast<int>(random.range(2, 5))));
      });
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_TRUE(holds(out, expected, before)) << mseloss::name_of(dtype);
    });
    EXPECT_GT(host.loops, 0);
  }
}

TEST(HostThreads, Loss_HasTheSameBitsAsOnTheOwnThreads) {
  Host host;
  expect_own_bits(host);
}

TEST(HostThreads, Limits_OfHostAndOptionsHoldBoth) {
  Call call;
  Host host;
  const HostThreads threads = host.table();
  in_new_thread([&] { call.run(options_with(threads, 3)); });
  EXPECT_EQ(host.most, 3);
  host.most = 0;
  host.threads = 2;
  in_new_thread([&] { call.run(options_with(threads, 3)); });
  EXPECT_EQ(host.most, 2);
  for (const int few : {1, 0, -5}) {  // one thread needs no loop
    host.loops = 0;
    host.threads = few;
    in_new_thread([&] { call.run(options_with(threads)); });
    EXPECT_EQ(host.loops, 0);
  }
}

TEST(HostThreads, SmallCall_NeedsNoThreads) {
  Host host;
  const HostThreads threads = host.table();
  const float x = 3, y = 1, one = 1;
  float loss, dx;
  ASSERT_TRUE(mseloss::loss_and_grad(&x, &y, Reduction::kSum, &one, &loss, &dx, options_with(threads)).ok());
  EXPECT_EQ(loss, 4);
  EXPECT_EQ(dx, 4);
  EXPECT_EQ(host.loops, 0);
}

TEST(HostThreads, RefusedLoop_RunsOnTheCallingThread) {
  Host host;
  host.refuses = true;
  expect_own_bits(host);
}

TEST(HostThreads, LateThreads_AreAvoidedForAWhile) {
  Call call;
  Host host;
  host.late = std::chrono::milliseconds(50);
  const HostThreads threads = host.table();
  in_new_thread([&] {
    for (int i = 0; i < 5; ++i) call.run(options_with(threads));
    EXPECT_EQ(host.loops, 1);  // then avoided for at least 8 x 40 ms
  });
  in_new_thread([&] {  // each thread has experience of its own
    call.run(options_with(threads));
    EXPECT_EQ(host.loops, 2);
  });
}

TEST(HostThreads, AvoidedThreads_AreTriedAgain) {
  Call call;
  Host host;
  host.late = std::chrono::milliseconds(5);
  const HostThreads threads = host.table();
  in_new_thread([&] {
    call.run(options_with(threads));
    ASSERT_EQ(host.loops, 1);
    host.alone = true;  // no more waiting
    for (int i = 0; i < 200 && host.loops == 1; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      call.run(options_with(threads));
    }
    EXPECT_EQ(host.loops, 2);
    call.run(options_with(threads));
    EXPECT_EQ(host.loops, 3);  // trusted again
  });
}

TEST(HostThreads, ForkedChild_WorksAlone) {
  Call call;
  Host host;
  const HostThreads threads = host.table();
  const pid_t child = fork();
  if (child == 0) {
    call.run(options_with(threads));
    _exit(host.loops == 0 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(HostThreads, ProcessDefault_HoldsForCallsThatNameNone) {
  Call call;
  Host host, other;
  const HostThreads threads = host.table(), named = other.table();
  Options options;
  options.threads = 4;
  mseloss::set_host_threads(&threads);
  in_new_thread([&] { call.run(options); });
  EXPECT_EQ(host.loops, 1);
  in_new_thread([&] { call.run(options_with(named)); });
  EXPECT_EQ(host.loops, 1);
  EXPECT_EQ(other.loops, 1);
  mseloss::set_host_threads(nullptr);
  in_new_thread([&] { call.run(options); });
  EXPECT_EQ(host.loops, 1);
}

TEST(HostThreads, ConcurrentCallsWhileTheDefaultChanges_AreRight) {
  Call expected;
  expected.run({});
  Host host;
  host.threads = 2;
  const HostThreads threads = host.table();
  std::atomic<bool> done{false};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      Call call;
      Options options;
      options.threads = 2;
      for (int k = 0; k < 30; ++k) call.run(options);
      EXPECT_EQ(call.loss, expected.loss);
      EXPECT_EQ(call.dx, expected.dx);
    });
  }
  std::thread switcher([&] {
    for (bool on = true; !done; on = !on) mseloss::set_host_threads(on ? &threads : nullptr);
    mseloss::set_host_threads(nullptr);
  });
  for (std::thread& caller : callers) caller.join();
  done = true;
  switcher.join();
}

}  // namespace
