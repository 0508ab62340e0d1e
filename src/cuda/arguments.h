// What the host hands to the kernels: plain structs, shared by the backend, the kernels and their model.
#pragma once

#include <cstdint>

#include "mseloss/partial_sum.h"
#include "plan/plan.h"

namespace mseloss::cuda {

// Threads of a block, for every kernel.
inline constexpr int kThreads = 256;

// Chunks of 16 bytes that a thread of a dense kernel loads at a time: four, but two of the half types where
// there are two results, because each of their eight lanes takes registers.
inline constexpr int kChunkBytes = 16;
inline constexpr int kUnroll = 4;
constexpr int smaller_unroll(int element_size) { return element_size == 2 ? 2 : kUnroll; }

// Divides a 63-bit index by an extent: the high half of index * multiplier, shifted right. The multiplier of
// extent 1 is 0.
struct Divisor {
  uint64_t multiplier;
  uint32_t shift;
};

inline constexpr int kScaleView = kOperands;  // the view of a scale that another kernel computed
inline constexpr int kViews = kOperands + 1;

// An operand in device memory. Strides are in bytes.
struct View {
  uint64_t address;  // of the first element of the loop nest; 0 if the operand is absent
  int64_t stride[kMaxRank];
  DType dtype;
  bool aligned;  // address and strides are multiples of the element's size
};

// A loop nest over elements. Dimensions [0, kept) number the slices of a sum, the others the elements of a
// slice.
struct Nest {
  int rank;
  int kept;
  int64_t extent[kMaxRank];
  Divisor divisor[kMaxRank];
  int64_t slices;  // product of the kept extents
  int64_t terms;   // product of the others
};

// What an elementwise kernel computes, and from what.
struct ElementArguments {
  Nest nest;
  View view[kViews];
  double scale;  // if view[kScaleView] is absent
  DType dtype;   // a result is rounded to this dtype, then to its operand's
  bool masked;   // the weight selects elements
  // Nothing needs to be computed if the only element of grad_output is 1: kOut holds that gradient already.
  // (The tile kernel computes it all the same: the test would take registers from its third block.)
  bool unless_one;
};

// A transposed tile: dimensions rank - 2 and rank - 1 of the nest, in tiles of kTileSide each way. Bit o of
// `transposed`: operand o is contiguous along dimension rank - 2.
inline constexpr int kTileSide = 32;
inline constexpr int kTransposedMost = 3;
struct TileArguments {
  ElementArguments element;
  uint32_t transposed;
  int64_t tile_rows, tile_columns;  // tiles along the two dimensions
  Divisor row_divisor, column_divisor;
  int64_t tiles;
};

// Operands of one dtype, contiguous or of one element along the innermost dimension. Bit o of `strided`:
// operand o is contiguous, with stride 1.
struct DenseArguments {
  uint64_t address[kOperands];
  uint32_t strided;
  int64_t numel;
  double scale;
  bool unless_one;  // as above
  // For rows: the outer dimensions, with strides in bytes, and the chunks of a row.
  int outer;
  int64_t extent[kMaxRank];
  Divisor divisor[kMaxRank];
  int64_t stride[kOperands][kMaxRank];
  int64_t row_chunks;
  Divisor row_divisor;
};

// What the sums of a kernel become, and where.
enum class Result : uint8_t {
  kLoss,   // rounded to the dtype of `result`
  kScale,  // 2 / sum(w), a double
  kState,  // not rounded: the SumState, and of an exact sum the limbs
};
inline constexpr int kStateWords = sizeof(internal::SumState) / sizeof(uint64_t);
inline constexpr int kExactStateWords = kStateWords + 2 * PartialSum::kLimbs;

// The distribution of a sum over blocks and threads: a block has kThreads / team slices, each summed by
// `team` threads; gridDim.y blocks share the terms of a slice.
struct SumShape {
  int team;          // a power of two
  bool columns;      // adjacent threads take adjacent slices, not adjacent terms
  int64_t groups;    // of slices that share a block
  int64_t per_part;  // terms of a slice in one block
  int64_t depth;     // additions that a term passes through at most
};

struct SumArguments {
  ElementArguments element;  // with kOut: also writes the gradient
  DenseArguments dense;      // the same operands, for the dense kernel
  SumShape shape;
  View result;  // over the kept dimensions
  Result kind;
  Reduction reduction;
  bool weighted;      // by numbers, not by a mask
  bool weights_only;  // sum(w) takes the place of the squares
  uint64_t partials;  // scratch: Terms of every slice and part; 0 if there is one part
  uint64_t tickets;   // scratch, zero: uint32 per group
  // The exact sweep.
  bool always;             // not only where `result` is pending
  int64_t exact_per_part;  // terms of a slice in one of its blocks
  uint64_t digits;         // scratch per slice: kDigitWords of 64 bits; 0 if there is one part
};

// An exact sum is an array of signed 64-bit cells that weigh 2^16 times as much as the one before; cell 0 has
// the weight of PartialSum's bit 0. Of every slice: the sum, the sum of the weights, flags, ticket.
inline constexpr int kTermDoubles = 6;  // of the fast sums of one slice and part
inline constexpr int kDigits = PartialSum::kLimbs * 4;
inline constexpr int kFlagsWord = 2 * kDigits;
inline constexpr int kTicketWord = kFlagsWord + 1;
inline constexpr int kDigitWords = kTicketWord + 1;

}  // namespace mseloss::cuda
