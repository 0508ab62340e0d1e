#include "model/core.h"

#include <algorithm>
#include <cstring>

namespace ascend_model {

const char* const kPipeNames[kPipes] = {"PIPE_S", "PIPE_V", "PIPE_MTE2", "PIPE_MTE3"};

namespace {
thread_local Core* current_core = nullptr;
constexpr uint8_t kPoison = 0xFF;                   // a NaN in every dtype
constexpr uint64_t kMaxInstructions = 100'000'000;  // per block; more means an endless loop
}  // namespace

Core& Core::Current() {
  if (current_core == nullptr) {
    throw Violation(6, "a kernel call outside a running block");
  }
  return *current_core;
}

void Core::SetCurrent(Core* core) { current_core = core; }

Core::Core(const CoreOptions& options, GlobalMemory* memory, Counters* counters)
    : options_(options),
      memory_(memory),
      counters_(counters),
      ub_(kUbBytes, kPoison),
      valid_(kUbBytes, 0),
      granules_(kUbBytes / kGranule) {}

std::string Core::Where() const {
  return std::string(call_) + " on " + kPipeNames[pipe_] + ", block " + std::to_string(options_.block) +
         " of " + std::to_string(options_.blocks) + ", instruction " + std::to_string(instructions_);
}

void Core::Fail(int rule, const std::string& text) const {
  throw Violation(rule, text + " (" + Where() + ")");
}

void Core::OpenPipe() {
  call_ = "TPipe";
  if (opened_) {
    Fail(6, "a second TPipe in one core");
  }
  opened_ = true;
}

int Core::InitBuffers(Position position, uint32_t count, uint32_t bytes) {
  call_ = "InitBuffer";
  const uint64_t rounded = (static_cast<uint64_t>(bytes) + kGranule - 1) / kGranule * kGranule;
  if (!opened_) {
    Fail(6, "a buffer without a TPipe");
  }
  if (count == 0 || rounded == 0) {
    Fail(1, "a queue without buffers, or a buffer of 0 bytes");
  }
  if (allocated_ + count * rounded > options_.ub_limit) {
    Fail(1, "buffers of " + std::to_string(allocated_ + count * rounded) + " bytes, UB has " +
                std::to_string(options_.ub_limit));
  }
  if (position != Position::kVecCalc) {
    int& used = queue_buffers_[position == Position::kVecOut ? 1 : 0];
    used += static_cast<int>(count);
    if (used > kEvents) {
      Fail(6, "more than 8 queue buffers at one position: no event id is left");
    }
  }
  if (buffers_.size() + count > 64) {
    Fail(6, "more than 64 buffers");
  }
  const int first = static_cast<int>(buffers_.size());
  for (uint32_t i = 0; i < count; ++i) {
    Buffer buffer;
    buffer.start = allocated_;
    buffer.bytes = static_cast<uint32_t>(rounded);
    buffer.position = position;
    buffer.state = position == Position::kVecCalc ? BufferState::kTemporary : BufferState::kFree;
    buffers_.push_back(buffer);
    allocated_ += buffer.bytes;
  }
  counters_->ub_bytes = std::max(counters_->ub_bytes, allocated_);
  return first;
}

void Core::Alloc(int index, Pipe producer) {
  call_ = "AllocTensor";
  Buffer& b = buffer(index);
  if (b.state != BufferState::kFree) {
    Fail(5, "no buffer of the queue is free: the core would wait forever");
  }
  b.state = BufferState::kOccupied;
  ++b.generation;
  Join(producer, b.freed);
  std::memset(&ub_[b.start], kPoison, b.bytes);
  std::memset(&valid_[b.start], 0, b.bytes);
}

void Core::Enqueue(int index, Pipe producer) {
  call_ = "EnQue";
  Buffer& b = buffer(index);
  if (b.state != BufferState::kOccupied && b.state != BufferState::kDequeued) {
    Fail(4, "EnQue of a tensor that was not allocated");
  }
  b.state = BufferState::kEnqueued;
  b.ready = Signal(producer);
}

void Core::Dequeue(int index, Pipe consumer) {
  call_ = "DeQue";
  Buffer& b = buffer(index);
  b.state = BufferState::kDequeued;
  Join(consumer, b.ready);
}

void Core::Free(int index, Pipe consumer) {
  call_ = "FreeTensor";
  Buffer& b = buffer(index);
  if (b.state == BufferState::kFree) {
    Fail(4, "a tensor freed twice");
  }
  if (b.state == BufferState::kEnqueued) {
    Fail(4, "a tensor freed while it is in the queue");
  }
  b.state = BufferState::kFree;
  b.freed = Signal(consumer);
}

Event Core::Signal(Pipe pipe) const {
  Event event;
  const PipeState& state = pipes_[pipe];
  event.clock = state.known;
  for (int p = kVector; p < kPipes; ++p) {  // the pipe inherits the clock of the issuing unit
    event.clock[p] = std::max(event.clock[p], pipes_[kScalar].known[p]);
  }
  event.clock[pipe] = state.issued;
  event.time = std::max(state.done_at, pipes_[kScalar].free_at);
  return event;
}

void Core::Join(Pipe pipe, const Event& event) {
  PipeState& state = pipes_[pipe];
  for (int p = 0; p < kPipes; ++p) {
    state.known[p] = std::max(state.known[p], event.clock[p]);
  }
  state.free_at = std::max(state.free_at, event.time);
}

void Core::Issue(Pipe pipe, const char* call) {
  call_ = call;
  pipe_ = pipe;
  if (++instructions_ > kMaxInstructions) {
    Fail(5, "the block does not end");
  }
  PipeState& scalar = pipes_[kScalar];
  PipeState& state = pipes_[pipe];
  scalar.free_at += options_.timing.scalar_issue;
  for (int p = kVector; p < kPipes; ++p) {  // but not the scalar unit's own writes, which need an event
    state.known[p] = std::max(state.known[p], scalar.known[p]);
  }
  state.free_at = std::max(state.free_at, scalar.free_at);
  ++state.issued;
  if (pipe == kScalar) {
    state.known[kScalar] = state.issued;  // the scalar unit sees its own writes
  }
}

bool Core::Ordered(uint32_t sequence, int pipe) const {
  const PipeState& state = pipes_[pipe_];
  return sequence == 0 || state.known[pipe] >= sequence || (pipe == pipe_ && sequence == state.issued);
}

void Core::Read(uint32_t address, uint32_t bytes) {
  if (bytes == 0) {
    return;
  }
  const uint8_t* hole = static_cast<const uint8_t*>(std::memchr(&valid_[address], 0, bytes));
  if (hole != nullptr) {
    Fail(8, "reads UB byte " + std::to_string(hole - valid_.data()) + ", which was never written");
  }
  for (uint32_t g = address / kGranule; g <= (address + bytes - 1) / kGranule; ++g) {
    Granule& granule = granules_[g];
    if (!Ordered(granule.write, granule.writer)) {
      Fail(19, "reads UB byte " + std::to_string(g * kGranule) + " while " + kPipeNames[granule.writer] +
                   " may still be writing it: no event or barrier between them");
    }
    if (pipe_ != kScalar) {  // the scalar unit issues nothing until it has the value
      granule.read[pipe_] = pipes_[pipe_].issued;
    }
  }
}

void Core::Write(uint32_t address, uint32_t bytes) {
  if (bytes == 0) {
    return;
  }
  for (uint32_t g = address / kGranule; g <= (address + bytes - 1) / kGranule; ++g) {
    Granule& granule = granules_[g];
    if (!Ordered(granule.write, granule.writer)) {
      Fail(19, "writes UB byte " + std::to_string(g * kGranule) + " while " + kPipeNames[granule.writer] +
                   " may still be writing it: no event or barrier between them");
    }
    for (int p = 0; p < kPipes; ++p) {
      if (!Ordered(granule.read[p], p)) {
        Fail(19, "writes UB byte " + std::to_string(g * kGranule) + " while " + kPipeNames[p] +
                     " may still be reading it: no event or barrier between them");
      }
    }
    granule.write = pipes_[pipe_].issued;
    granule.writer = pipe_;
  }
  std::memset(&valid_[address], 1, bytes);
}

void Core::Barrier(int pipe) {
  call_ = "PipeBarrier";
  ++counters_->barriers;
  if (pipe != kPipes) {
    pipes_[pipe].known[pipe] = pipes_[pipe].issued;
    return;
  }
  Event all;
  for (int p = 0; p < kPipes; ++p) {
    const Event one = Signal(static_cast<Pipe>(p));
    for (int q = 0; q < kPipes; ++q) {
      all.clock[q] = std::max(all.clock[q], one.clock[q]);
    }
    all.time = std::max(all.time, one.time);
  }
  for (int p = 0; p < kPipes; ++p) {
    Join(static_cast<Pipe>(p), all);
  }
}

int Core::FetchEvent(int kind) const {
  for (int id = 0; id < kEvents - 2; ++id) {  // 6 and 7 are reserved
    if (flags_.count({kind, id}) == 0) {
      return id;
    }
  }
  Fail(19, "no event id is left");
}

void Core::SetFlag(int kind, Pipe from, int id) {
  call_ = "SetFlag";
  if (id < 0 || id >= kEvents) {
    Fail(19, "event id " + std::to_string(id) + " outside 0..7");
  }
  if (!flags_.emplace(std::make_pair(kind, id), Signal(from)).second) {
    Fail(19, "event " + std::to_string(id) + " set twice without a wait");
  }
}

void Core::WaitFlag(int kind, Pipe to, int id) {
  call_ = "WaitFlag";
  const auto flag = flags_.find({kind, id});
  if (flag == flags_.end()) {
    Fail(19, "waits for event " + std::to_string(id) + ", which is never set");
  }
  Join(to, flag->second);
  flags_.erase(flag);
}

void Core::Finish() {
  call_ = "end of kernel";
  pipe_ = kScalar;
  if (!flags_.empty()) {
    Fail(19, "an event was set and never waited for");
  }
  for (const Buffer& b : buffers_) {
    if (b.state != BufferState::kFree && b.state != BufferState::kTemporary) {
      Fail(4, "the tensor at UB byte " + std::to_string(b.start) + " was never freed");
    }
  }
  CheckCacheIsClean();
  CountTime();
}

}  // namespace ascend_model
