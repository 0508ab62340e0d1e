// How the general layout is walked: in boxes small enough for the caches, in which every operand is read
// along its own contiguous direction.
#pragma once

#include <string>

#include "plan/plan.h"

namespace mseloss::cpu {

// Of one operand's tile. Short rows are dealt out from a small one, from L1; beside a transposed operand the
// others want long rows, so that the hardware's prefetchers follow them, and its tile lives in L2.
inline constexpr int64_t kTileBytes = 32 * 1024;
inline constexpr int64_t kTransposedTileBytes = 128 * 1024;
inline constexpr int64_t kSegmentBytes =
    256;  // read at a time along a transposed operand's contiguous direction
inline constexpr int64_t kDirectBytes = 256;  // shorter runs than this are cheaper through a tile

struct Tiling {
  int64_t box[kMaxRank];    // extents of a box
  int64_t boxes[kMaxRank];  // boxes in each dimension
  int64_t total;            // boxes in all
  int64_t volume;           // elements of a box
  bool direct[kOperands];   // read (or written) in place; else through a tile
  int64_t padding;          // elements between rows of a tile, against cache set conflicts
  int run;                  // dimensions run..rank-1 of a box are one run for every direct operand
};

Tiling make_tiling(const Plan& plan);

// How many threads are worth it, at most as many as the options allow.
int thread_count(const Plan& plan, const Options& options);

// Whether the output goes past the caches.
bool streams(const Plan& plan, const Options& options);

std::string explain(const Plan& plan, const Options& options);

}  // namespace mseloss::cpu
