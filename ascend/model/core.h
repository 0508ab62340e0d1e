// A functional model of one vector core: unified buffer (UB), asynchronous pipes, events, global memory. The
// kernel API (include/kernel_operator.h) is built on it; nothing here depends on the operator.
//
// Ordering is checked as a happens-before relation, not by a schedule: a queue, an event or a barrier must
// order every access to UB after the accesses it depends on, for any interleaving of the pipes. Instructions
// take effect immediately, so a debugger sees sequential code.
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

// An access or call that fails on the hardware: the rule it breaks (numbered as in docs/ascend.md) and where.
struct Violation : std::runtime_error {
  Violation(int rule_number, const std::string& text)
      : std::runtime_error("rule " + std::to_string(rule_number) + ": " + text), rule(rule_number) {}
  int rule;
};

enum Pipe : int { kScalar = 0, kVector = 1, kCopyIn = 2, kCopyOut = 3, kPipes = 4 };
extern const char* const kPipeNames[kPipes];

// A vector clock: for each pipe, the number of its instructions known to have completed.
using Clock = std::array<uint32_t, kPipes>;

struct Event {
  Clock clock{};
  double time = 0;  // cycles
};

enum class BufferState { kFree, kOccupied, kEnqueued, kDequeued, kTemporary };
enum class Position { kVecIn, kVecOut, kVecCalc };

struct Buffer {
  uint32_t start = 0;  // bytes into UB
  uint32_t bytes = 0;
  Position position = Position::kVecCalc;
  BufferState state = BufferState::kFree;
  uint32_t generation = 0;  // counts AllocTensor calls, to detect stale tensors
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

// Global memory (GM): only the tensors of the call are accessible. The caller owns their storage; tests of
// more than 2^32 elements use reserved mappings, which take no memory until they are touched.
class GlobalMemory {
 public:
  std::vector<Region> regions;
  std::map<uintptr_t, int64_t> scalar_lines;  // cache lines that a scalar unit wrote to, and its block
  bool Contains(uintptr_t address) const;
  void CheckRead(const char* call, uintptr_t address, uint64_t bytes, int64_t block) const;
  void Write(const char* call, uintptr_t address, uint64_t bytes, int64_t block);
  // After the last block: checks that no output byte was written twice, that `expected` was written, and that
  // no two blocks wrote to a line that a scalar unit writes back as a whole.
  void CheckWritten(const std::vector<std::pair<uint64_t, uint64_t>>& expected) const;
};

struct CoreOptions {
  int architecture = 2201;  // __NPU_ARCH__: 2201 Atlas A2 and A3, 2002 Ascend 310P, 3510 Ascend 950
  int64_t block = 0;
  int64_t blocks = 1;
  uint32_t ub_limit = 188160;  // UB bytes available to a kernel
  bool saturate = false;       // CTRL[48] = 0: Inf becomes the largest number, NaN becomes 0
  Timing timing;
};

class Core {
 public:
  static constexpr uint32_t kUbBytes = 262144;  // of the largest chip
  static constexpr uint32_t kGranule = 32;
  static constexpr int kEvents = 8;

  Core(const CoreOptions& options, GlobalMemory* memory, Counters* counters);
  static Core& Current();  // of the calling thread
  static void SetCurrent(Core* core);

  const CoreOptions& options() const { return options_; }
  uint8_t* ub() { return ub_.data(); }
  GlobalMemory& memory() { return *memory_; }
  Buffer& buffer(int index) { return buffers_.at(static_cast<size_t>(index)); }

  void OpenPipe();  // TPipe: exactly one
  int InitBuffers(Position position, uint32_t count,
                  uint32_t bytes);  // returns the index of the first buffer
  void Alloc(int buffer, Pipe producer);
  void Enqueue(int buffer, Pipe producer);
  void Dequeue(int buffer, Pipe consumer);
  void Free(int buffer, Pipe consumer);

  // Begins an instruction. Read and Write declare its accesses; Retire ends it.
  void Issue(Pipe pipe, const char* call);
  void Read(uint32_t address, uint32_t bytes);
  void Write(uint32_t address, uint32_t bytes);
  void Retire(double cycles, double latency);
  void CountCopy(Pipe pipe, uint64_t bytes);
  void CountVector(uint64_t bytes);

  // The scalar unit's cache of global memory.
  void CacheRead(uintptr_t address, void* value, uint32_t bytes);
  void CacheWrite(uintptr_t address, const void* value, uint32_t bytes);
  void CacheClean(uintptr_t address);  // cleans and drops from the address to the end of its line
  void CopiedOut(uintptr_t address, uint64_t bytes);

  void Barrier(int pipe);  // kPipes: all
  int FetchEvent(int kind) const;
  void SetFlag(int kind, Pipe from, int id);
  void WaitFlag(int kind, Pipe to, int id);
  void Finish();  // end of the kernel: checks for leaked tensors and pending events

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
    double free_at = 0;  // cycles: when the next instruction can start
    double done_at = 0;  // when its results are visible
  };

  static constexpr uintptr_t kLine = 64;
  struct Line {
    std::array<uint8_t, kLine> data{};
    std::array<bool, kLine> cached{};
    std::array<bool, kLine> dirty{};
  };

  Line& Fetch(uintptr_t address);
  void CheckCacheIsClean() const;

  using Spans = std::vector<std::pair<double, double>>;  // cycles, from and to

  Event Signal(Pipe pipe) const;
  void Join(Pipe pipe, const Event& event);
  bool Ordered(uint32_t sequence, int pipe) const;
  double ReserveBus(double ready, double cycles);
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
  std::map<uintptr_t, Line> lines_;           // by address
  std::map<uintptr_t, uint32_t> copied_out_;  // lines at the ends of copies: the last copy's instruction
  uint32_t allocated_ = 0;
  int queue_buffers_[2] = {0, 0};
  bool opened_ = false;
  Pipe pipe_ = kScalar;  // of the instruction being issued
  const char* call_ = "";
  std::deque<std::pair<double, double>>
      bus_;  // reserved spans that later transfers can meet, in order of time
  Spans bus_busy_;
  Spans vector_busy_;
  uint64_t instructions_ = 0;
};

}  // namespace ascend_model
