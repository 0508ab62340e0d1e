// longjmp() between stacks is what this file is for; the checked variant refuses it.
#undef _FORTIFY_SOURCE
#include "cuda/model/fibers.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <csetjmp>
#include <cstdint>
#include <new>

namespace mseloss::cuda::model {
namespace {

constexpr size_t kStackBytes = 64 * 1024;  // with a guard page at the lower end

}  // namespace

// setjmp() and longjmp() switch; a context of <ucontext.h> is only made to enter a new stack, because
// swapcontext() makes a system call each time.
struct Fibers::Fiber {
  ucontext_t context;
  std::jmp_buf state;
  Fibers* owner;
  char* stack;
  void (*run)(void*);
  void* argument;
  bool entered = false;  // suspended: in yield(), or between two functions
  bool running = false;  // in a function
};

Fibers::Fibers(int count) : count_(count), resumer_(nullptr) {
  void* memory = mmap(nullptr, static_cast<size_t>(count) * kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  stacks_ = static_cast<char*>(memory);
  fibers_ = new (std::nothrow) Fiber[static_cast<size_t>(count)];
  if (fibers_ == nullptr) {
    munmap(stacks_, static_cast<size_t>(count) * kStackBytes);
    throw std::bad_alloc();
  }
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (int i = 0; i < count; ++i) {
    fibers_[i].owner = this;
    fibers_[i].stack = stacks_ + static_cast<size_t>(i) * kStackBytes;
    mprotect(fibers_[i].stack, page, PROT_NONE);
  }
}

Fibers::~Fibers() {
  delete[] fibers_;
  munmap(stacks_, static_cast<size_t>(count_) * kStackBytes);
}

void Fibers::enter(unsigned low, unsigned high) {
  auto* const fiber = reinterpret_cast<Fiber*>(static_cast<uintptr_t>(high) << 32 | low);
  for (;;) {
    fiber->run(fiber->argument);
    fiber->running = false;
    fiber->owner->yield();
  }
}

void Fibers::start(int index, void (*run)(void*), void* context) {
  Fiber& fiber = fibers_[index];
  if (fiber.running) fiber.entered = false;
  fiber.run = run;
  fiber.argument = context;
  fiber.running = true;
}

bool Fibers::resume(int index) {
  Fiber& fiber = fibers_[index];
  std::jmp_buf here;
  void* const outer = resumer_;
  Fiber* const outer_fiber = current_;
  resumer_ = &here;
  current_ = &fiber;
  if (_setjmp(here) == 0) {
    if (fiber.entered) std::longjmp(fiber.state, 1);
    fiber.entered = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    const auto address = reinterpret_cast<uintptr_t>(&fiber);
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Fibers::enter), 2,
                static_cast<unsigned>(address), static_cast<unsigned>(address >> 32));
    setcontext(&fiber.context);
  }
  resumer_ = outer;
  current_ = outer_fiber;
  return fiber.running;
}

void Fibers::yield() {
  Fiber* const fiber = current_;
  if (_setjmp(fiber->state) == 0) std::longjmp(*static_cast<std::jmp_buf*>(resumer_), 1);
}

}  // namespace mseloss::cuda::model
