// Cooperative threads on the calling thread: each has a stack of its own and runs until it yields.
#pragma once

#include <cstddef>

namespace mseloss::cuda::model {

class Fibers {
 public:
  explicit Fibers(int count);  // throws std::bad_alloc
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  // Prepares fiber `index` to call run(context). A fiber that is suspended in another call abandons it.
  void start(int index, void (*run)(void* context), void* context);
  // Continues a started fiber until it yields or its function returns; returns false when that has returned.
  bool resume(int index);
  // Within a fiber: suspends it.
  void yield();

 private:
  struct Fiber;
  static void enter(unsigned low, unsigned high);

  int count_;
  char* stacks_;
  Fiber* fibers_;
  Fiber* current_ = nullptr;
  void* resumer_;
};

}  // namespace mseloss::cuda::model
