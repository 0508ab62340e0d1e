// One vector core as the hardware punishes it: unified buffer, asynchronous pipes, events, global memory.
// The kernel API (include/kernel_operator.h) is written on top of this; nothing here knows the operator.
//
// Time is a happens-before relation, not a schedule: every access to the unified buffer must be ordered after
// the accesses it depends on by a queue, an event or a barrier, whatever order the pipes might run in.
// Instructions take effect at once, so a debugger sees plain sequential code.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/counters.h"

namespace ascend_model {

// A thing the hardware would punish: the call, the rule (numbers of docs/ascend.md) and the place.
struct Violation : std::runtime_error {
  Violation(int rule_number, const std::string& text)
      : std::runtime_error("rule " + std::to_string(rule_number) + ": " + text), rule(rule_number) {}
  int rule;
};

enum Pipe : int { kScalar = 0, kVector = 1, kCopyIn = 2, kCopyOut = 3, kPipes = 4 };
extern const char* const kPipeNames[kPipes];

// For each pipe, how many of its instructions are known to have finished.
using Clock = std::array<uint32_t, kPipes>;

struct Event {
  Clock clock{};
  double time = 0;  // cycles
};

enum class BufferState { kFree, kOccupied, kEnqueued, kDequeued, kTemporary };
enum class Place { kVecIn, kVecOut, kVecCalc };

struct Buffer {
  uint32_t start = 0;  // bytes into UB
  uint32_t bytes = 0;
  Place place = Place::kVecCalc;
  BufferState state = BufferState::kFree;
  uint32_t generation = 0;  // counts AllocTensor, so that a tensor kept too long is recognised
  Event freed;
  Event ready;
};

struct Written {
  uint64_t begin;
  uint64_t end;
  int64_t block;
};

struct Region {
  std::string name;
  uintptr_t base = 0;
  uint64_t bytes = 0;
  bool output = false;
  std::vector<Written> written;
};

// Global memory: the tensors of the call and nothing else. Their storage is the caller's; a reserved but
// untouched mapping costs nothing, which is how lengths past 2^32 are run.
class GlobalMemory {
 public:
  std::vector<Region> regions;
  void CheckRead(const char* call, uintptr_t address, uint64_t bytes, int64_t block) const;
  void Write(const char* call, uintptr_t address, uint64_t bytes, int64_t block);
  // After the last block: no byte of an output twice, and every byte of [begin, end) of it.
  void CheckWritten(const std::vector<std::pair<uint64_t, uint64_t>>& expected) const;
};

struct CoreOptions {
  int64_t block = 0;
  int64_t blocks = 1;
  uint32_t ub_limit = 188160;  // bytes a kernel may allot
  bool saturate = false;       // CTRL[48] = 0: Inf becomes the largest number, NaN becomes 0
  Timing timing;
};

class Core {
 public:
  static constexpr uint32_t kUbBytes = 196608;
  static constexpr uint32_t kGranule = 32;
  static constexpr int kEvents = 8;

  Core(const CoreOptions& options, GlobalMemory* memory, Counters* counters);
  static Core& Current();  // of the calling thread
  static void SetCurrent(Core* core);

  const CoreOptions& options() const { return options_; }
  uint8_t* ub() { return ub_.data(); }
  GlobalMemory& memory() { return *memory_; }
  Buffer& buffer(int index) { return buffers_.at(static_cast<size_t>(index)); }

  void OpenPipe();                                         // TPipe: exactly one
  int Allot(Place place, uint32_t count, uint32_t bytes);  // index of the first of `count` buffers
  void Alloc(int buffer, Pipe producer);
  void Enqueue(int buffer, Pipe producer);
  void Dequeue(int buffer, Pipe consumer);
  void Free(int buffer, Pipe consumer);

  // Issues an instruction; its accesses follow, then Retire.
  void Issue(Pipe pipe, const char* call);
  void Read(uint32_t address, uint32_t bytes);
  void Write(uint32_t address, uint32_t bytes);
  void Retire(double cycles, double latency);
  void CountCopy(Pipe pipe, uint64_t bytes);
  void CountVector(uint64_t bytes);

  void Barrier(int pipe);  // kPipes: all
  int FetchEvent(int kind) const;
  void SetFlag(int kind, Pipe from, int id);
  void WaitFlag(int kind, Pipe to, int id);
  void Finish();  // end of the kernel: nothing leaked, no event left set

  std::string Where() const;
  [[noreturn]] void Fail(int rule, const std::string& text) const;

 private:
  struct Granule {
    uint32_t write = 0;
    int writer = kScalar;
    std::array<uint32_t, kPipes> read{};
  };
  struct PipeState {
    Clock known{};
    uint32_t issued = 0;
    double free_at = 0;  // cycles: can start the next instruction
    double done_at = 0;  // its results are visible
  };

  using Spans = std::vector<std::pair<double, double>>;  // cycles, from and to

  Event Signal(Pipe pipe) const;
  void Join(Pipe pipe, const Event& event);
  bool Ordered(uint32_t sequence, int pipe) const;
  double TakeBus(double ready, double cycles);
  void CountTime();
  static void AddBusy(Spans& spans, double from, double to);

  CoreOptions options_;
  GlobalMemory* memory_;
  Counters* counters_;
  std::vector<uint8_t> ub_;
  std::vector<uint8_t> valid_;
  std::vector<Granule> granules_;
  std::vector<Buffer> buffers_;
  std::array<PipeState, kPipes> pipes_;
  std::map<std::pair<int, int>, Event> flags_;
  uint32_t allotted_ = 0;
  int queue_buffers_[2] = {0, 0};
  bool opened_ = false;
  Pipe pipe_ = kScalar;  // of the instruction being issued
  const char* call_ = "";
  std::deque<std::pair<double, double>> bus_;  // taken spans that still matter, in order of time
  Spans bus_busy_;
  Spans vector_busy_;
  uint64_t instructions_ = 0;
};

}  // namespace ascend_model
