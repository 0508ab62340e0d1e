// Runs one sweep: splits it between threads and runs it as a dense loop or tile by tile.
#include "cpu/sweep.h"

#include <hwy/cache_control.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <new>

#include "cpu/host_pool.h"
#include "cpu/schedule/interrupt_poll.h"
#include "cpu/schedule/policy.h"
#include "cpu/schedule/slice_sums.h"
#include "cpu/schedule/tile_loop.h"
#include "cpu/thread_pool.h"
#include "numerics/float_environment.h"

namespace mseloss::cpu {
namespace {

// Memory for packed tiles and sums of slices, kept by the calling thread between calls: mostly up to a few
// hundred KiB per participating thread; tens of MiB for slices of transposed operands of mixed dtypes.
struct Scratch {
  char* memory;
  size_t size;
};
thread_local constinit Scratch thread_scratch{};

void free_scratch() noexcept {
  ::operator delete (thread_scratch.memory, std::align_val_t{64});
  thread_scratch = {};
}

// Frees the scratch memory of a thread that ends. Not a destructor of thread_scratch: the C library aborts if
// it has no memory to register one.
class ThreadEnd {
 public:
  ThreadEnd() noexcept : made_(pthread_key_create(&key_, [](void*) { free_scratch(); }) == 0) {}
  // Returns false if memory runs out. If the process had no key left (it has about 1000), the scratch memory
  // of threads that end is leaked.
  bool watch_this_thread() const noexcept {
    return !made_ || pthread_setspecific(key_, &thread_scratch) == 0;
  }

 private:
  pthread_key_t key_;
  bool made_;
};
const ThreadEnd thread_end;

// Null if memory runs out.
char* scratch_memory(size_t bytes) noexcept {
  Scratch& scratch = thread_scratch;
  if (bytes <= scratch.size) return scratch.memory;
  free_scratch();
  if (!thread_end.watch_this_thread()) return nullptr;
  scratch.memory = static_cast<char*>(::operator new (bytes, std::align_val_t{64}, std::nothrow));
  if (scratch.memory != nullptr) scratch.size = bytes;
  return scratch.memory;
}

// The unit of work of a dense layout, a page of the output, so that threads share no cache line and each
// first touches its own pages. log2 of its elements.
int unit_log2(const Plan& plan) {
  constexpr int kLog2PageBytes = 12;
  return kLog2PageBytes - log2_size_of(plan.dtype);
}

// Elements between two checks for an interrupt: about a millisecond of work.
constexpr int64_t kInterruptChunk = 1 << 20;

// Below this size, a call on sleeping helpers runs faster on one thread.
constexpr int64_t kWakeElements = 128 * 1024;

char* first_element(const Plan& plan, const Buffers& buffers, int operand) {
  return static_cast<char*>(buffers[operand]) + plan.offset[operand] * size_of(plan.dtypes[operand]);
}

// `n` elements of a dense plan, beginning at at(operand).
template <class At>
RowBlock dense_row(const Plan& plan, int64_t n, At at) {
  RowBlock block;  // not value-initialised: clearing all of it is measurable in a call on a few elements
  std::fill_n(block.at, kOperands, nullptr);
  block.scale = plan.scale;
  block.n = n;
  block.rows = 1;
  block.plane = 0;
  block.masked = false;
  for_each_operand(plan, [&](int o) {
    block.pitch[o] = 0;
    block.strided[o] = plan.rank != 0 && plan.stride[o][0] != 0;
    block.at[o] = at(o);
  });
  return block;
}

// Non-temporal stores write full elements at aligned addresses only.
bool is_non_temporal(const Plan& plan, const Options& options, const void* out) {
  return uses_non_temporal_stores(plan, options) &&
         reinterpret_cast<uintptr_t>(out) % size_of(plan.dtype) == 0;
}

// A dense plan on the calling thread. The set-up of a Job would take as long as the sweep over a few
// elements.
void run_alone(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
               const SumTarget& sum) {
  const RowBlock block = dense_row(plan, plan.numel, [&](int o) { return first_element(plan, buffers, o); });
  const bool non_temporal = is_non_temporal(plan, options, block.at[kOut]);
  const FloatEnvironment environment;
  InterruptPoll never(nullptr);
  SweepRunner runner(plan, sweep, non_temporal, sum, &never);
  runner(block);
  if (non_temporal) hwy::FlushStream();
}

struct Job {
  // NOLINTNEXTLINE(clang-analyzer-optin.cplusplus.UninitializedObject): a dense plan has no tiling
  Job(const Plan& p, Sweep s, const SumTarget& total, const Interrupt* interrupt)
      : plan(p), sweep(s), sum(total), interrupt_poll(interrupt) {}

  const Plan& plan;
  Sweep sweep;
  const SumTarget sum;
  InterruptPoll interrupt_poll;
  bool non_temporal = false;
  int threads = 1;
  int64_t units = 0;  // pages, or tiles
  int unit = 0;       // of a dense plan: log2 of the elements of a page
  char* data[kOperands] = {};
  Tiling tiling;  // not of a dense plan
  WorkShares shares;
  WorkShares::Share* share_memory = nullptr;
  char* scratch = nullptr;
  size_t scratch_each = 0;
  // Of a sliced plan: how many parts the tiles of the same slices are divided into, and the accumulators, one
  // per unit if there are several parts, else one per participant.
  int64_t slice_parts = 1;
  char* slice_sums = nullptr;
  size_t slice_each = 0;
  std::atomic<int64_t> pending{0};
  std::mutex mutex;

  void dense(int64_t first, int64_t last, SweepRunner* runner) const {
    const auto run = [&](int64_t end) {
      (*runner)(dense_row(plan, end - first, [&](int o) {
        return data[o] + (plan.stride[o][0] != 0 ? first * size_of(plan.dtypes[o]) : 0);
      }));
    };
    if (!interrupt_poll.possible()) return run(last);
    for (;;) {
      run(std::min(first + kInterruptChunk, last));
      first += kInterruptChunk;
      if (first >= last || runner->interrupted()) return;
    }
  }

  double* slice_sums_at(int64_t i) const {
    return reinterpret_cast<double*>(slice_sums + static_cast<size_t>(i) * slice_each);
  }

  // The slices whose sums are in several parts.
  void finish_slices(bool with_scales) {
    const FloatEnvironment environment;
    for (int64_t unit = 0; unit < units; unit += slice_parts) {
      const SliceTile tile(plan, tiling, unit / slice_parts);
      double* const sums = slice_sums_at(unit);
      merge_parts(plan, tile, sums, slice_parts, slice_each);
      const SliceScales scales = with_scales ? find_scales(plan, tile, {}, sums) : SliceScales();
      pending += finish_slice_tile(plan, tile, data[kLossOut], sums, {}, scales);
    }
  }

  void run(const HostThreads* host) {
    if (threads == 1) return run_all();
    shares = WorkShares(share_memory, threads, units, max_units());
    constexpr auto task = [](void* context, int index) { static_cast<Job*>(context)->participate(index); };
    host != nullptr ? host_fork_join(*host, threads, task, this) : fork_join(threads, task, this);
  }

  void run_units(int index, int64_t first, int64_t last, SweepRunner* runner) {
    if (plan.sliced) {
      double* sums = slice_sums_at(slice_parts == 1 ? index : 0);
      pending += run_slice_tiles(plan, tiling, data, first, last, slice_parts, scratch + index * scratch_each,
                                 runner, sums);
    } else if (plan.layout == Layout::kDense) {
      dense(first << unit, std::min(last << unit, plan.numel), runner);
    } else {
      run_tiles(plan, tiling, data, first, last, scratch + index * scratch_each, runner);
    }
  }

  // All units on one thread.
  void run_all() {
    const FloatEnvironment environment;
    SweepRunner runner(plan, sweep, non_temporal_rows(), sum, &interrupt_poll);
    run_units(0, 0, units, &runner);
    if (non_temporal) hwy::FlushStream();
  }

  // One participant's share, then what it steals.
  void participate(int index) {
    int64_t first, last;
    if (!shares.take(index, &first, &last)) return;
    const FloatEnvironment environment;
    SumState partial;
    uint64_t limbs[2 * PartialSum::kLimbs];
    const bool exact = sweep == Sweep::kExactSum;
    if (exact) std::fill_n(limbs, 2 * PartialSum::kLimbs, 0);
    SweepRunner runner(plan, sweep, non_temporal_rows(), {&partial, exact ? limbs : nullptr},
                       &interrupt_poll);
    do {
      run_units(index, first, last, &runner);
    } while (!runner.interrupted() && shares.take(index, &first, &last));
    if (non_temporal) hwy::FlushStream();
    if (sum.state == nullptr || plan.sliced) return;
    const std::lock_guard lock(mutex);
    SumAccess::merge(sum, partial, limbs);
  }

  // Units that a participant takes at once. In a call that may be interrupted it takes few, so that the
  // calling thread, the only one that polls, waits only briefly for the others.
  int64_t max_units() const {
    constexpr int64_t kTiles = 64;
    if (!interrupt_poll.possible()) return units;
    return plan.layout == Layout::kDense ? kInterruptChunk >> unit : kTiles;
  }

  bool non_temporal_rows() const {
    return non_temporal && (plan.layout == Layout::kDense || tiling.non_temporal_rows);
  }
};

Status run_job(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
               const SumTarget& sum) {
  Job job(plan, sweep, sum, options.interrupt);
  for_each_operand(plan, [&](int o) { job.data[o] = first_element(plan, buffers, o); });
  job.threads = thread_count(plan, options);
  const HostThreads* host = nullptr;
  if (job.threads > 1) host = select_host_threads(options.host_threads, &job.threads);
  if (job.threads > 1 && host == nullptr && plan.numel < kWakeElements && !helpers_are_awake()) {
    job.threads = 1;
  }
  job.non_temporal = is_non_temporal(plan, options, job.data[kOut]);
  if (plan.layout == Layout::kDense) {
    job.unit = unit_log2(plan);
    job.units = ((plan.numel - 1) >> job.unit) + 1;
  } else {
    job.tiling = make_tiling(plan, job.non_temporal, job.threads);
    job.units = job.tiling.num_tiles;
    job.scratch_each = scratch_bytes(plan, job.tiling);
  }
  if (plan.sliced) {
    constexpr int64_t kUnitsPerThread = 4;  // enough for an even distribution
    const int64_t tiles = job.tiling.num_tiles / job.tiling.slice_tiles,
                  wanted = kUnitsPerThread * job.threads;
    if (job.threads > 1 && tiles < wanted) {
      job.slice_parts = std::min(job.tiling.slice_tiles, (wanted + tiles - 1) / tiles);
    }
    job.units = tiles * job.slice_parts;
    job.slice_each = slice_bytes(plan, job.tiling);
    job.data[kLossOut] =
        static_cast<char*>(buffers[kLossOut]) + plan.offset[kLossOut] * size_of(plan.loss_dtype);
  }
  job.threads = static_cast<int>(std::min<int64_t>(job.threads, job.units));
  const size_t shares = job.threads > 1 ? job.threads * sizeof(WorkShares::Share) : 0;
  const size_t slices =
      plan.sliced ? job.slice_each * static_cast<size_t>(job.slice_parts == 1 ? job.threads : job.units) : 0;
  if (const size_t bytes = shares + job.scratch_each * job.threads + slices; bytes != 0) {
    char* const memory = scratch_memory(bytes);
    if (memory == nullptr) {
      return Status::error(Code::kOutOfMemory, "scratch: expected %zu bytes of memory, got none", bytes);
    }
    job.scratch = memory + shares;
    job.slice_sums = job.scratch + job.scratch_each * job.threads;
    job.share_memory = reinterpret_cast<WorkShares::Share*>(memory);
  }
  // The gradient needs the complete sums: if those are in parts, it is a second pass.
  const bool two_passes = sweep == Sweep::kSliceSumsThenGrad && job.slice_parts > 1;
  if (two_passes) job.sweep = Sweep::kSliceSums;
  job.run(host);
  if (plan.sliced && job.slice_parts > 1 && !job.interrupt_poll.requested()) job.finish_slices(two_passes);
  if (two_passes && !job.interrupt_poll.requested()) {
    job.sweep = Sweep::kSliceGrad;
    job.run(host);
  }
  if (job.interrupt_poll.requested()) {
    return Status::error(Code::kInterrupted, "interrupted: the results are incomplete");
  }
  if (plan.sliced) sum.state->count = static_cast<uint64_t>(job.pending);
  return {};
}

}  // namespace

Status run_sweep(const Plan& plan, const Buffers& buffers, Sweep sweep, const Options& options,
                 const SumTarget& sum) {
  if (plan.numel == 0) return {};
  // A sum writes no elementwise output and needs only the inputs.
  const bool writes = sweep != Sweep::kFastSum && sweep != Sweep::kExactSum && sweep != Sweep::kSliceSums;
  int operands = plan.operands & (writes ? ~0 : 1 << kInput | 1 << kTarget | 1 << kWeight);
  if (plan.sliced) operands &= ~(1 << kLossOut);
  const Plan* used = &plan;
  Plan part;
  if (operands != plan.operands || needs_dimension(plan)) {
    part = plan;
    part.operands = static_cast<uint8_t>(operands);
    add_unit_dimension(&part);
    used = &part;
  }
  if (used->layout == Layout::kDense && options.interrupt == nullptr && thread_count(*used, options) == 1) {
    run_alone(*used, buffers, sweep, options, sum);
    return {};
  }
  return run_job(*used, buffers, sweep, options, sum);
}

}  // namespace mseloss::cpu
