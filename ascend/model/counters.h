// Counters of one run: traffic, instructions, and pipe times under nominal assumptions.
#pragma once

#include <cstdint>

namespace ascend_model {

// Nominal timing of one vector core, in cycles; docs/ascend_performance.md gives the sources.
struct Timing {
  double clock_ghz = 1.8;
  double bus_bytes = 18.5;    // GM <-> UB bytes per cycle: 1.6 TB/s over 48 cores at 1.8 GHz
  double copy_issue = 32;     // before the first byte of a transfer
  double copy_latency = 600;  // until the last byte is visible; overlaps with the next transfer
  double vector_bytes = 256;  // per cycle (one repeat)
  double vector_start = 24;   // per vector instruction
  double scalar_issue = 2;    // per instruction issued by the scalar unit
};

struct Counters {
  uint64_t bytes_in = 0;  // GM to UB
  uint64_t bytes_out = 0;
  uint64_t copies_in = 0;
  uint64_t copies_out = 0;
  uint64_t large_copies = 0;  // of at least 16 KiB
  uint64_t largest_copy = 0;
  uint64_t vector_instructions = 0;
  uint64_t vector_repeats = 0;
  uint64_t barriers = 0;
  int64_t blocks = 0;
  uint32_t ub_bytes = 0;     // maximum allocated by a core
  double cycles = 0;         // of the slowest core
  double vector_cycles = 0;  // busy, summed over cores
  double copy_cycles = 0;
  double overlap_cycles = 0;  // vector pipe and a copy pipe busy at the same time
};

}  // namespace ascend_model
