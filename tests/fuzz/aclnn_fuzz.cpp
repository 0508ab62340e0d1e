// libFuzzer harness of the acl and aclnn functions: sequences of calls on one thread, with every outcome
// known, or on several threads that share handles.
#include <pthread.h>

#include <thread>

#include "acl/runtime.h"
#include "tests/fuzz/aclnn_machine.h"

namespace fuzz {

std::atomic<uint64_t> Machine::calls, Machine::failures, Machine::launches, Machine::compared;

namespace {

struct Totals {
  uint64_t sequences = 0, on_threads = 0;
  ~Totals() {
    std::fprintf(
        stderr, "TALLY sequences=%llu on_threads=%llu calls=%llu failures=%llu launches=%llu compared=%llu\n",
        static_cast<unsigned long long>(sequences), static_cast<unsigned long long>(on_threads),
        static_cast<unsigned long long>(Machine::calls), static_cast<unsigned long long>(Machine::failures),
        static_cast<unsigned long long>(Machine::launches),
        static_cast<unsigned long long>(Machine::compared));
  }
} totals;

void run_threads(const uint8_t* data, size_t size, int count, Arena* buffers) {
  Exchange exchange{};
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    const size_t first = size * static_cast<size_t>(i) / static_cast<size_t>(count);
    const size_t last = size * static_cast<size_t>(i + 1) / static_cast<size_t>(count);
    threads.emplace_back([=, &exchange] {
      Input input(data + first, last - first);
      Machine(input, buffers, &exchange).run(200);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fuzz;
  static Arena buffers[kBuffers];
  if (size == 0) return 0;
  cases::Random random(Input(data, size).seed());
  for (Arena& buffer : buffers) {
    buffer.reset();
    buffer.cover(buffer.end() - kBuffer, buffer.end());
    buffer.randomize(random);
  }
  mseloss::acl::callback_timeout_ms = 2;
  FUZZ_REQUIRE(aclInit(nullptr) == ACL_SUCCESS, "%s", aclGetRecentErrMsg());
  const int threads = data[0] % 8;
  ++totals.sequences;
  if (threads < 6) {
    Input input(data + 1, size - 1);
    Machine(input, buffers, nullptr).run(400);
  } else {
    ++totals.on_threads;
    run_threads(data + 1, size - 1, threads == 6 ? 2 : 4, buffers);
  }
  FUZZ_REQUIRE(aclFinalize() == ACL_SUCCESS, "%s", aclGetRecentErrMsg());
  return 0;
}
