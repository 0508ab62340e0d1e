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

struct Job {
  Job(const Plan& p, Sweep s, PartialSum* total) : plan(p), sweep(s), sum(total) {}

  const Plan& plan;
  const Sweep sweep;
  PartialSum* const sum;
  bool stream = false;
  int threads = 1;
  char* data[kOperands] = {};
  Tiling tiling = {};
  char* scratch = nullptr;
  size_t scratch_each = 0;
  std::mutex mutex;

  // Part `index` of `threads`, of `count` units.
  int64_t begin(int64_t count, int index) const {
    if (threads == 1) return count * index;  // a division costs as much as a tiny run
    return count / threads * index + std::min<int64_t>(index, count % threads);
  }

  void dense_part(int index, Worker* worker) const {
    constexpr int64_t kUnit = 1024;  // elements; whole cache lines, so that threads share none
    const int64_t units = (plan.numel + kUnit - 1) / kUnit;
    const int64_t first = begin(units, index) * kUnit;
    const int64_t last = std::min(begin(units, index + 1) * kUnit, plan.numel);
    if (first >= last) return;
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

  void part(int index) {
    if (sum == nullptr || threads == 1) return part(index, sum);
    PartialSum piece;
    part(index, &piece);
    const std::lock_guard lock(mutex);
    sum->merge(piece);
  }

  void part(int index, PartialSum* piece) {
    const FloatEnvironment environment;
    Worker worker(plan, sweep, stream && (plan.layout == Layout::kDense || tiling.stream_runs), piece);
    if (plan.layout == Layout::kDense) {
      dense_part(index, &worker);
    } else {
      walk(plan, tiling, data, begin(tiling.total, index), begin(tiling.total, index + 1),
           scratch + index * scratch_each, &worker);
    }
    if (stream) hwy::FlushStream();
  }
};

Status start(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options, PartialSum* sum) {
  Job job(plan, sweep, sum);
  for (int o = 0; o < kOperands; ++o) {
    if (!has(plan, o)) continue;
    job.data[o] = static_cast<char*>(buffers[o]) + plan.offset[o] * size_of(plan.dtypes[o]);
  }
  job.threads = thread_count(plan, options);
  // Streaming stores write whole elements at aligned addresses only.
  job.stream =
      streams(plan, options) && reinterpret_cast<uintptr_t>(job.data[kOut]) % size_of(plan.dtype) == 0;
  if (plan.layout != Layout::kDense) {
    job.tiling = make_tiling(plan, job.stream);
    job.threads = static_cast<int>(std::min<int64_t>(job.threads, job.tiling.total));
    job.scratch_each = scratch_bytes(plan, job.tiling);
    thread_local Scratch scratch;
    job.scratch = scratch.get(job.scratch_each * job.threads);
    if (job.scratch_each != 0 && job.scratch == nullptr) {
      return Status::error(Code::kOutOfMemory, "scratch: expected %zu bytes of memory, got none",
                           job.scratch_each * job.threads);
    }
  }
  parallel(
      job.threads, [](void* context, int index) { static_cast<Job*>(context)->part(index); }, &job);
  return {};
}

Status execute(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
               PartialSum* sum) {
  if (plan.numel == 0) return {};
  // A sweep may leave out operands of its plan: the sum alone writes nothing.
  const bool writes = sweep != Sweep::kFastSum && sweep != Sweep::kExactSum;
  const int operands = plan.operands & (writes ? ~0 : 1 << kInput | 1 << kTarget);
  const bool point = plan.layout != Layout::kDense && plan.rank == 0;  // one element, through a tile of one
  if (operands == plan.operands && !point) return start(plan, buffers, sweep, options, sum);
  Plan part = plan;
  part.operands = static_cast<uint8_t>(operands);
  if (point) part.extent[part.rank++] = 1;
  return start(part, buffers, sweep, options, sum);
}

}  // namespace

const Backend kBackend{"cpu", &execute};

}  // namespace mseloss::cpu
