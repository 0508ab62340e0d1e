#include "cpu/tiling.h"

#include <algorithm>
#include <cstdlib>

#include "mseloss/mseloss.h"

namespace mseloss::cpu {
namespace {

int64_t volume_of(const Plan& plan, const int64_t* box) {
  int64_t volume = 1;
  for (int d = 0; d < plan.rank; ++d) volume *= box[d];
  return volume;
}

void choose_box(const Plan& plan, Tiling* tiling) {
  // Along each operand's contiguous direction a few cache lines, fewer if there are many directions.
  bool wanted[kMaxRank] = {}, transposed = false;
  for (int o = 0; o < kOperands; ++o) {
    // An operand that stands still along the innermost dimension is one element a row: it wants nothing.
    if (!has(plan, o) || plan.stride[o][plan.rank - 1] == 0) continue;
    const int d = contiguous_dimension(plan, o);
    wanted[d] = true;
    transposed = transposed || d != plan.rank - 1;
  }
  const int64_t size = size_of(plan.dtype), budget = (transposed ? kTransposedTileBytes : kTileBytes) / size;
  int64_t* box = tiling->box;
  for (int64_t width = kSegmentBytes / size; width >= 1; width /= 2) {
    for (int d = 0; d < plan.rank; ++d) box[d] = wanted[d] ? std::min(plan.extent[d], width) : 1;
    if (volume_of(plan, box) <= budget) break;
  }
  // The rest of the budget goes to the innermost dimensions, in equal boxes.
  for (int d = plan.rank; d-- > 0;) {
    const int64_t most = std::min(plan.extent[d], budget / (volume_of(plan, box) / box[d]));
    const int64_t count = (plan.extent[d] + most - 1) / most;
    box[d] = (plan.extent[d] + count - 1) / count;
  }
}

// The outermost dimension from which on the operand, within a box, is one run of stride 0 or 1; rank if there
// is none.
int first_run_dimension(const Plan& plan, const Tiling& tiling, int operand) {
  const int64_t* stride = plan.stride[operand];
  int d = plan.rank - 1;
  const bool unit = stride[d] == 1 || (stride[d] == 0 && operand < kOut);
  if (!unit || plan.dtypes[operand] != plan.dtype) return plan.rank;
  while (d > 0 && tiling.box[d] == plan.extent[d] && stride[d - 1] == stride[d] * plan.extent[d]) --d;
  return d;
}

}  // namespace

Tiling make_tiling(const Plan& plan, bool stream) {
  Tiling tiling{};
  choose_box(plan, &tiling);
  tiling.volume = volume_of(plan, tiling.box);
  tiling.total = 1;
  for (int d = 0; d < plan.rank; ++d) {
    tiling.boxes[d] = (plan.extent[d] + tiling.box[d] - 1) / tiling.box[d];
    tiling.total *= tiling.boxes[d];
  }
  int first[kOperands];
  int64_t run_bytes[kOperands];
  for (int o = 0; o < kOperands; ++o) {
    if (!has(plan, o)) continue;
    first[o] = first_run_dimension(plan, tiling, o);
    run_bytes[o] = first[o] < plan.rank ? size_of(plan.dtype) : 0;
    for (int d = first[o]; d < plan.rank; ++d) run_bytes[o] *= tiling.box[d];
  }
  // For the sake of long runs in an output that is to be streamed, others with shorter ones go through tiles.
  const bool long_runs = stream && run_bytes[kOut] >= kStreamRunBytes;
  for (int o = 0; o < kOperands; ++o) {
    if (!has(plan, o)) continue;
    tiling.direct[o] = run_bytes[o] >= (long_runs ? kStreamRunBytes : kDirectBytes) ||
                       run_bytes[o] == tiling.volume * size_of(plan.dtype);
    if (tiling.direct[o]) tiling.run = std::max(tiling.run, first[o]);
  }
  tiling.stream_runs = long_runs;
  if (plan.rank > 1 && tiling.run == plan.rank - 1) tiling.padding = 64 / size_of(plan.dtype);
  return tiling;
}

int thread_count(const Plan& plan, const Options& options) {
  constexpr int64_t kGrainBytes = 256 * 1024;  // a core moves less before another has joined
  int64_t bytes = 0;
  for (int o = 0; o < kOperands; ++o) {
    if (has(plan, o)) bytes += size_of(plan.dtypes[o]);
  }
  const int64_t most = options.threads > 0 ? options.threads : max_threads();
  if (plan.numel > INT64_MAX / bytes) return static_cast<int>(most);
  return static_cast<int>(std::clamp<int64_t>(plan.numel * bytes / kGrainBytes, 1, most));
}

bool streams(const Plan& plan, const Options& options) {
  constexpr int64_t kStreamBytes = 16 << 20;  // docs/performance.md has the measurement
  if (!has(plan, kOut) || options.store == Options::Store::kCached) return false;
  return options.store == Options::Store::kStreaming || plan.numel >= kStreamBytes / size_of(plan.dtype);
}

std::string explain(const Plan& plan, const Options& options) {
  if (plan.numel == 0) return "no elements: nothing to do";
  const char* names[kOperands] = {"grad_output", "input", "target", "grad_input", "loss"};
  std::string text = plan.layout == Layout::kDense  ? "dense"
                     : plan.layout == Layout::kRows ? "rows"
                                                    : "general";
  text += ": " + std::to_string(plan.numel) + " elements as (";
  for (int d = 0; d < plan.rank; ++d) text += (d == 0 ? "" : ", ") + std::to_string(plan.extent[d]);
  text += ")";
  if (plan.layout != Layout::kDense) {
    const Tiling tiling = make_tiling(plan, streams(plan, options));
    text += " in boxes of (";
    for (int d = 0; d < plan.rank; ++d) text += (d == 0 ? "" : ", ") + std::to_string(tiling.box[d]);
    text += ")";
    for (int o = 0; o < kOperands; ++o) {
      if (has(plan, o))
        text += std::string(", ") + names[o] + (tiling.direct[o] ? " in place" : " through a tile");
    }
  }
  text += std::string(", ") + (streams(plan, options) ? "streaming" : "cached") + " stores, at most " +
          std::to_string(thread_count(plan, options)) + " threads, target " + target();
  return text;
}

}  // namespace mseloss::cpu
