#include "cpu/tiling.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "mseloss/mseloss.h"

namespace mseloss::cpu {
namespace {

constexpr int64_t kLineBytes = 64;

// Of a box's dimensions first..last-1.
int64_t volume_of(const int64_t* box, int first, int last) {
  int64_t volume = 1;
  for (int d = first; d < last; ++d) volume *= box[d];
  return volume;
}

// An operand that stands still along the innermost dimension is one element a row: the box need not suit it.
bool moves_inside(const Plan& plan, int o) { return has(plan, o) && plan.stride[o][plan.rank - 1] != 0; }

// Widens the box until `width` elements along the operand's contiguous direction lie in it, and where that is
// short, those beside them that share cache lines with them.
void cover(const Plan& plan, int o, int64_t width, int64_t* box) {
  const int first = contiguous_dimension(plan, o);
  box[first] = std::max(box[first], std::min(plan.extent[first], width));
  const int64_t together = std::min<int64_t>(width, kSharedBytes / size_of(plan.dtype));
  for (int64_t covered = box[first]; covered < together;) {
    int next = first;
    for (int d = 0; d < plan.rank; ++d) {
      if (std::abs(plan.stride[o][d]) == covered * std::abs(plan.stride[o][first])) next = d;
    }
    if (next == first) return;
    box[next] = std::max(box[next], std::min(plan.extent[next], (together + covered - 1) / covered));
    covered *= box[next];
  }
}

int64_t transposed_tile_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const int64_t bytes =
      std::clamp<int64_t>(sysconf(_SC_LEVEL2_CACHE_SIZE) / 4, kLeastTransposedBytes, kMostTransposedBytes);
  return bytes;
#else
  return kLeastTransposedBytes;
#endif
}

void choose_box(const Plan& plan, Tiling* tiling) {
  int64_t transposed = 0;
  for (int o = 0; o < kOperands; ++o) {
    if (moves_inside(plan, o) && contiguous_dimension(plan, o) != plan.rank - 1) ++transposed;
  }
  const int64_t bytes =
      transposed == 0 ? kTileBytes : std::max(transposed_tile_bytes() / transposed, kTileBytes);
  const int64_t size = size_of(plan.dtype), budget = bytes / size;
  int64_t* box = tiling->box;
  for (int64_t width = kSegmentBytes / size; width >= 1; width /= 2) {
    std::fill_n(box, plan.rank, 1);
    for (int o = 0; o < kOperands; ++o) {
      if (moves_inside(plan, o)) cover(plan, o, width, box);
    }
    if (volume_of(box, 0, plan.rank) <= budget) break;
  }
  // The rest of the budget goes to the innermost dimensions, in equal boxes, which are whole cache lines
  // where that makes no great difference.
  const int64_t line = kLineBytes / size;
  for (int d = plan.rank; d-- > 0;) {
    const int64_t most = std::min(plan.extent[d], budget / (volume_of(box, 0, plan.rank) / box[d]));
    const int64_t count = (plan.extent[d] + most - 1) / most;
    box[d] = (plan.extent[d] + count - 1) / count;
    if (count > 1 && box[d] >= 4 * line) {
      const int64_t up = (box[d] + line - 1) / line * line;
      box[d] = up <= most ? up : up - line;
    }
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

// The kernels' rows are dimensions run..rank-1 of a box: operands with shorter runs go through tiles. Where
// they begin is a matter of cost: of each row, and of the copies that longer rows need.
void choose_rows(const Plan& plan, Tiling* tiling) {
  // As bytes that could be copied from L1 to L1 meanwhile; fitted to rows of 8 to 130 bytes on a Zen 5.
  constexpr int64_t kRowCost = 200, kStandingCost = 80, kPieceCost = 40;
  constexpr int64_t kNearBytes = 256;  // between short rows that are read where they are
  const int64_t size = size_of(plan.dtype);
  int first[kOperands];
  std::fill_n(first, kOperands, plan.rank);
  const auto run_bytes = [&](int d) { return volume_of(tiling->box, d, plan.rank) * size; };
  for_each_operand(plan, [&](int o) {
    first[o] = first_run_dimension(plan, *tiling, o);
    // Copies visit the operand's cache lines in its own order, rows in the box's.
    if (first[o] == 0 || first[o] == plan.rank || run_bytes(first[o]) >= kLineBytes) return;
    if (std::abs(plan.stride[o][first[o] - 1]) * size > kNearBytes) first[o] = plan.rank;
  });
  const auto cost = [&](int run) {
    int64_t row = kRowCost, copies = 0;
    for_each_operand(plan, [&](int o) {
      if (first[o] <= run) {
        if (run > 0 && !moves_inside(plan, o)) row += kStandingCost;
      } else {
        const int64_t pieces = moves_inside(plan, o) ? volume_of(tiling->box, 0, first[o]) : 1;
        copies += pieces * kPieceCost + tiling->volume * size;
      }
    });
    return volume_of(tiling->box, 0, run) * row + copies;
  };
  // For the sake of long runs in an output that is to be streamed, others with shorter ones go through tiles.
  tiling->stream_runs =
      tiling->stream && first[kOut] < plan.rank && run_bytes(first[kOut]) >= kStreamRunBytes;
  const bool sums = plan.op != Op::kGrad && plan.reduction != Reduction::kNone;
  const int64_t shortest = tiling->stream_runs ? kStreamRunBytes : sums ? kDirectSumBytes : kDirectBytes;
  int64_t least = cost(0);
  for_each_operand(plan, [&](int o) {
    if (first[o] == 0 || first[o] == plan.rank || run_bytes(first[o]) < shortest) return;
    if (const int64_t own = cost(first[o]); own < least) {
      least = own;
      tiling->run = first[o];
    }
  });
  for_each_operand(plan, [&](int o) { tiling->direct[o] = first[o] <= tiling->run; });
  tiling->stream_runs = tiling->stream_runs && tiling->direct[kOut];
  // Long rows of a tile at distances of an odd number of cache lines: they share no sets of a cache.
  const int64_t line = kLineBytes / size, row = tiling->box[plan.rank - 1];
  if (plan.rank > 1 && tiling->run == plan.rank - 1 && row >= 4 * line) {
    tiling->padding = row / line % 2 == 0 ? line : 2 * line;
  }
}

}  // namespace

void give_dimension(Plan* plan) {
  if (!lacks_dimension(*plan)) return;
  plan->rank = 1;
  plan->extent[0] = 1;
  for (auto& strides : plan->stride) strides[0] = 0;
}

Tiling make_tiling(const Plan& plan, bool stream) {
  Tiling tiling{};
  choose_box(plan, &tiling);
  tiling.volume = volume_of(tiling.box, 0, plan.rank);
  tiling.total = 1;
  for (int d = 0; d < plan.rank; ++d) {
    tiling.boxes[d] = (plan.extent[d] + tiling.box[d] - 1) / tiling.box[d];
    tiling.total *= tiling.boxes[d];
  }
  tiling.stream = stream;
  choose_rows(plan, &tiling);
  return tiling;
}

int thread_count(const Plan& plan, const Options& options) {
  constexpr int64_t kGrainBytes = 256 * 1024;  // a core moves less before another has joined
  static_assert(kOperands * size_of(DType::kFloat64) <= 64);
  if (plan.numel < kGrainBytes / 64) return 1;
  int64_t bytes = 0;
  for_each_operand(plan, [&](int o) { bytes += size_of(plan.dtypes[o]); });
  const int64_t most = options.threads > 0 ? options.threads : max_threads();
  if (plan.numel > INT64_MAX / bytes) return static_cast<int>(most);
  return static_cast<int>(std::clamp<int64_t>(plan.numel * bytes / kGrainBytes, 1, most));
}

// docs/performance.md has the measurements: beside fewer than two operands of its size a large output is
// better off in the last-level cache, as long as that holds them all, which it does less well in general
// layouts, most of which do not visit every operand in the order of its addresses.
bool streams(const Plan& plan, const Options& options) {
  constexpr int64_t kStreamBytes = 8 << 20;
  constexpr double kCacheBytes = 28 << 20, kGeneralCacheBytes = 18 << 20;
  if (!has(plan, kOut) || options.store == Options::Store::kCached) return false;
  if (options.store == Options::Store::kStreaming) return true;
  if (plan.numel < kStreamBytes / size_of(plan.dtype)) return false;
  double bytes[kOperands] = {}, all = 0;
  for_each_operand(plan, [&](int o) {
    bytes[o] = size_of(plan.dtypes[o]);
    for (int d = 0; d < plan.rank; ++d) {
      if (plan.stride[o][d] != 0) bytes[o] *= static_cast<double>(plan.extent[d]);
    }
    all += bytes[o];
  });
  return all >= 3 * bytes[kOut] ||
         all >= (plan.layout == Layout::kGeneral ? kGeneralCacheBytes : kCacheBytes);
}

std::string explain(const Plan& given, const Options& options) {
  if (given.numel == 0) return "no elements: nothing to do";
  Plan plan = given;
  give_dimension(&plan);
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
