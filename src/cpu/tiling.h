// How the general layout is walked: in boxes small enough for the caches, in which every operand is read
// along its own contiguous direction.
#pragma once

#include <string>

#include "plan/plan.h"

namespace mseloss::cpu {

// Of one operand's tile. Short rows are dealt out from a small one, from L1; beside a transposed operand the
// others want long rows, so that the hardware's prefetchers follow them, and the tiles of all that are
// transposed together take a quarter of L2.
inline constexpr int64_t kTileBytes = 16 * 1024;
inline constexpr int64_t kLeastTransposedBytes = 128 * 1024, kMostTransposedBytes = 512 * 1024;
inline constexpr int64_t kSegmentBytes =
    256;  // read at a time along a transposed operand's contiguous direction
inline constexpr int64_t kSharedBytes = 128;  // two cache lines, which prefetchers fetch together
// Shorter runs are cheaper through a tile; the sums' kernels want whole vectors.
inline constexpr int64_t kDirectBytes = 16, kDirectSumBytes = 64;
// Streamed runs of less lose more at their ends, which go through the caches, than they gain.
inline constexpr int64_t kStreamRunBytes = 256;

struct Tiling {
  int64_t box[kMaxRank];    // extents of a box
  int64_t boxes[kMaxRank];  // boxes in each dimension
  int64_t total;            // boxes in all
  int64_t volume;           // elements of a box
  bool direct[kOperands];   // read (or written) in place; else through a tile
  bool stream;              // the output goes past the caches where that pays,
  bool stream_runs;         // as it does in the runs that are written in place
  int64_t padding;          // elements between rows of a tile, against cache set conflicts
  int run;                  // dimensions run..rank-1 of a box are one run for every direct operand
};

// One element that is not dense has no dimension to make boxes of; give_dimension() gives it one.
inline bool lacks_dimension(const Plan& plan) { return plan.rank == 0 && plan.layout != Layout::kDense; }
void give_dimension(Plan* plan);

// `stream`: the output goes past the caches where that pays. The plan's rank is at least 1.
Tiling make_tiling(const Plan& plan, bool stream);

// How many threads are worth it, at most as many as the options allow.
int thread_count(const Plan& plan, const Options& options);

// Whether the output goes past the caches.
bool streams(const Plan& plan, const Options& options);

std::string explain(const Plan& plan, const Options& options);

}  // namespace mseloss::cpu
