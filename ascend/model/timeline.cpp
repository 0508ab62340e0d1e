// Instruction times under the nominal timing of counters.h, and the counters derived from them.
#include <algorithm>

#include "model/core.h"

namespace ascend_model {

void Core::Retire(double cycles, double latency) {
  PipeState& state = pipes_[pipe_];
  double end = state.free_at + cycles;
  if (pipe_ == kCopyIn || pipe_ == kCopyOut) {
    end = ReserveBus(state.free_at + options_.timing.copy_issue, cycles);
  } else if (pipe_ == kVector) {
    AddBusy(vector_busy_, state.free_at, end);
  }
  state.free_at = end;
  state.done_at = end + latency;
}

// Both copy directions share the core's bus. Transfers are issued in program order but start when their
// events allow, so a later transfer can use time that an earlier one leaves free. Returns the time of the
// last byte.
double Core::ReserveBus(double ready, double cycles) {
  const double past = std::min(pipes_[kCopyIn].free_at, pipes_[kCopyOut].free_at);
  while (!bus_.empty() && bus_.front().second <= past) {
    bus_.pop_front();
  }
  double at = ready;
  double left = cycles;
  for (auto next = bus_.begin();; ++next) {
    const bool last = next == bus_.end();
    const double slice = last ? left : std::min(left, next->first - at);
    if (slice > 0) {
      AddBusy(bus_busy_, at, at + slice);
      next = bus_.insert(next, {at, at + slice}) + 1;
      at += slice;
      left -= slice;
    }
    if (last || left <= 0) {
      break;
    }
    at = std::max(at, next->second);
  }
  return at;
}

void Core::AddBusy(Spans& spans, double from, double to) {
  if (!spans.empty() && spans.back().second == from) {
    spans.back().second = to;
  } else {
    spans.emplace_back(from, to);
  }
}

void Core::CountCopy(Pipe pipe, uint64_t bytes) {
  (pipe == kCopyIn ? counters_->bytes_in : counters_->bytes_out) += bytes;
  (pipe == kCopyIn ? counters_->copies_in : counters_->copies_out) += 1;
  counters_->large_copies += bytes >= 16384 ? 1 : 0;
  counters_->largest_copy = std::max(counters_->largest_copy, bytes);
}

void Core::CountVector(uint64_t bytes) {
  ++counters_->vector_instructions;
  counters_->vector_repeats += (bytes + 255) / 256;
}

// Called at the end of the kernel.
void Core::CountTime() {
  double end = 0;
  std::sort(bus_busy_.begin(), bus_busy_.end());
  for (const PipeState& pipe : pipes_) {
    end = std::max({end, pipe.done_at, pipe.free_at});
  }
  const Spans& vector = vector_busy_;
  size_t v = 0;
  for (const auto& [from, to] : bus_busy_) {
    counters_->copy_cycles += to - from;
    while (v < vector.size() && vector[v].second <= from) {
      ++v;
    }
    for (size_t i = v; i < vector.size() && vector[i].first < to; ++i) {
      counters_->overlap_cycles += std::min(to, vector[i].second) - std::max(from, vector[i].first);
    }
  }
  for (const auto& [from, to] : vector) {
    counters_->vector_cycles += to - from;
  }
  counters_->cycles = std::max(counters_->cycles, end);
}

}  // namespace ascend_model
