// The CPU backend: splits the work between threads, and picks the dense loop or the walk in boxes.
#include "backend.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <mutex>
#include <new>

#include "cpu/threads.h"
#include "cpu/walk.h"
#include "numerics/float_environment.h"

namespace mseloss::cpu {
namespace {

// Tiles' memory, kept by the calling thread from call to call: tens of KiB for each thread that takes part.
class Scratch {
 public:
  ~Scratch() { ::operator delete (memory_, std::align_val_t{64}); }
  char* get(size_t bytes) {
    if (bytes <= size_) return memory_;
    ::operator delete (memory_, std::align_val_t{64});
    size_ = 0;
    memory_ = static_cast<char*>(::operator new (bytes, std::align_val_t{64}, std::nothrow));
    if (memory_ != nullptr) size_ = bytes;
    return memory_;
  }

 private:
  char* memory_ = nullptr;
  size_t size_ = 0;
};
thread_local Scratch thread_scratch;

// Of the output, a page: threads share no cache line, and page by page what each of them touched first.
constexpr int64_t kUnitBytes = 4096;

// Elements of a job so long that waking helpers pays.
constexpr int64_t kAlwaysShared = 128 * 1024;

struct Job {
  Job(const Plan& p, Sweep s, PartialSum* total) : plan(p), sweep(s), sum(total) {}

  const Plan& plan;
  const Sweep sweep;
  PartialSum* const sum;
  bool stream = false;
  int threads = 1;
  int64_t units = 0;  // of kUnitBytes of the output, or boxes
  char* data[kOperands] = {};
  Tiling tiling = {};
  Shares shares;
  char* scratch = nullptr;
  size_t scratch_each = 0;
  std::mutex mutex;

  void dense(int64_t first, int64_t last, Worker* worker) const {
    const int size = size_of(plan.dtype);
    const auto at = [&](int o) {
      const bool moves = plan.rank != 0 && plan.stride[o][0] != 0;
      return data[o] == nullptr ? nullptr : data[o] + (moves ? first * size : 0);
    };
    Run run{};
    run.scale = plan.scale;
    run.n = last - first;
    run.rows = 1;
    for (const int o : {kGradOutput, kInput, kTarget}) {
      run.in[o] = at(o);
      run.moves[o] = has(plan, o) && plan.rank != 0 && plan.stride[o][0] != 0;
    }
    run.out = data[kOut] == nullptr ? nullptr : data[kOut] + first * size;
    run.loss = data[kOut2] == nullptr ? nullptr : data[kOut2] + first * size;
    (*worker)(run);
  }

  void units_of(int index, int64_t first, int64_t last, Worker* worker) const {
    if (plan.layout == Layout::kDense) {
      const int64_t unit = kUnitBytes / size_of(plan.dtype);
      dense(first * unit, std::min(last * unit, plan.numel), worker);
    } else {
      walk(plan, tiling, data, first, last, scratch + index * scratch_each, worker);
    }
  }

  // All of it, on one thread.
  void whole() {
    const FloatEnvironment environment;
    Worker worker(plan, sweep, stream_runs(), sum);
    units_of(0, 0, units, &worker);
    if (stream) hwy::FlushStream();
  }

  // What falls to one participant.
  void part(int index) {
    int64_t first, last;
    if (!shares.take(index, &first, &last)) return;
    const FloatEnvironment environment;
    PartialSum piece;
    Worker worker(plan, sweep, stream_runs(), &piece);
    do {
      units_of(index, first, last, &worker);
    } while (shares.take(index, &first, &last));
    if (stream) hwy::FlushStream();
    if (sum == nullptr) return;
    const std::lock_guard lock(mutex);
    sum->merge(piece);
  }

  bool stream_runs() const { return stream && (plan.layout == Layout::kDense || tiling.stream_runs); }
};

Status start(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options, PartialSum* sum) {
  Job job(plan, sweep, sum);
  for_each_operand(plan, [&](int o) {
    job.data[o] = static_cast<char*>(buffers[o]) + plan.offset[o] * size_of(plan.dtypes[o]);
  });
  job.threads = thread_count(plan, options);
  if (job.threads > 1 && plan.numel < kAlwaysShared && !helpers_are_near()) job.threads = 1;
  // Streaming stores write whole elements at aligned addresses only.
  job.stream =
      streams(plan, options) && reinterpret_cast<uintptr_t>(job.data[kOut]) % size_of(plan.dtype) == 0;
  if (plan.layout == Layout::kDense) {
    job.units = (plan.numel - 1) / (kUnitBytes / size_of(plan.dtype)) + 1;
  } else {
    job.tiling = make_tiling(plan, job.stream);
    job.units = job.tiling.total;
    job.scratch_each = scratch_bytes(plan, job.tiling);
  }
  job.threads = static_cast<int>(std::min<int64_t>(job.threads, job.units));
  const size_t shares = job.threads > 1 ? job.threads * sizeof(Shares::Share) : 0;
  if (const size_t bytes = shares + job.scratch_each * job.threads; bytes != 0) {
    char* const memory = thread_scratch.get(bytes);
    if (memory == nullptr) {
      return Status::error(Code::kOutOfMemory, "scratch: expected %zu bytes of memory, got none", bytes);
    }
    job.scratch = memory + shares;
    if (shares != 0) job.shares = Shares(reinterpret_cast<Shares::Share*>(memory), job.threads, job.units);
  }
  if (job.threads == 1) {
    job.whole();
  } else {
    parallel(
        job.threads, [](void* context, int index) { static_cast<Job*>(context)->part(index); }, &job);
  }
  return {};
}

Status execute(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
               PartialSum* sum) {
  if (plan.numel == 0) return {};
  // A sweep may leave out operands of its plan: the sum alone writes nothing.
  const bool writes = sweep != Sweep::kFastSum && sweep != Sweep::kExactSum;
  const int operands = plan.operands & (writes ? ~0 : 1 << kInput | 1 << kTarget);
  if (operands == plan.operands && !lacks_dimension(plan)) return start(plan, buffers, sweep, options, sum);
  Plan part = plan;
  part.operands = static_cast<uint8_t>(operands);
  give_dimension(&part);
  return start(part, buffers, sweep, options, sum);
}

}  // namespace

const Backend kBackend{"cpu", &execute};

}  // namespace mseloss::cpu
