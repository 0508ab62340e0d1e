// The elementwise kernel for operands that are contiguous along another dimension than the others: their
// part of a tile passes through shared memory, so that every operand is read and written in whole segments.
#pragma once

#include "cuda/kernels/elements.h"

namespace mseloss::cuda {

// A row of a tile has one unused element: a column then lies in kTileSide different banks.
inline constexpr int kTilePitch = kTileSide + 1;
inline constexpr int kTileElements = kTileSide * kTilePitch;
inline constexpr int kTileRows = kThreads / kTileSide;  // rows that a block handles at a time

// Where in shared memory a transposed operand has its tile.
MSELOSS_DEVICE int tile_slot(uint32_t transposed, int operand) {
  int slot = 0;
  for (int o = 0; o < operand; ++o) slot += transposed >> o & 1;
  return slot * kTileElements;
}

// The tile's elements in dimensions rank - 2 (row) and rank - 1 (column).
struct TilePosition {
  Offsets origin;
  int rows, columns;  // less than kTileSide at the end of a dimension
};

MSELOSS_DEVICE TilePosition find_tile(const TileArguments& a, int64_t tile) {
  const ElementArguments& e = a.element;
  const int row = e.nest.rank - 2, column = e.nest.rank - 1;
  uint64_t index = static_cast<uint64_t>(tile), rest = divide(index, a.column_divisor);
  const int64_t first_column = static_cast<int64_t>(index - rest * a.tile_columns) * kTileSide;
  index = rest;
  rest = divide(index, a.row_divisor);
  const int64_t first_row = static_cast<int64_t>(index - rest * a.tile_rows) * kTileSide;
  TilePosition position{};
  locate(e, 0, row, rest, &position.origin);
  advance(e, row, first_row, &position.origin);
  advance(e, column, first_column, &position.origin);
  const int64_t rows = e.nest.extent[row] - first_row, columns = e.nest.extent[column] - first_column;
  position.rows = rows < kTileSide ? static_cast<int>(rows) : kTileSide;
  position.columns = columns < kTileSide ? static_cast<int>(columns) : kTileSide;
  return position;
}

// Assumes rank >= 2, and at most kTransposedMost transposed operands. Two barriers a tile suffice: the second
// lies between the last read of this tile's inputs and the next tile's, the next first one between the last
// read of its outputs and the next tile's.
template <class C>
MSELOSS_KERNEL(2)
tile(MSELOSS_PARAMETER(TileArguments, a)) {
  using Bits = uint64_t;
  MSELOSS_SHARED(Bits, shared, kTransposedMost * kTileElements);
  const ElementArguments& e = a.element;
  const int row = e.nest.rank - 2, column = e.nest.rank - 1;
  const int fast = threadIdx.x % kTileSide, slow = threadIdx.x / kTileSide;
  for (int64_t index = blockIdx.x; index < a.tiles; index += gridDim.x) {
    const TilePosition position = find_tile(a, index);
    // Transposed inputs: adjacent threads read adjacent rows of one column.
    MSELOSS_UNROLL
    for (int o = 0; o < kOut; ++o) {
      if ((a.transposed >> o & 1) == 0) continue;
      const View& view = e.view[o];
      const int slot = tile_slot(a.transposed, o);
      for (int c = slow; c < position.columns; c += kTileRows) {
        if (fast >= position.rows) continue;
        const int64_t offset = position.origin.at[o] + fast * view.stride[row] + c * view.stride[column];
        shared.store(slot + fast * kTilePitch + c,
                     load_bits(view.address + offset, view.dtype, view.aligned));
      }
    }
    __syncthreads();
    for (int r = slow; r < position.rows; r += kTileRows) {
      if (fast >= position.columns) continue;
      Offsets offsets = position.origin;
      advance(e, row, r, &offsets);
      advance(e, column, fast, &offsets);
      RawElement<C> raw{};
      MSELOSS_UNROLL
      for (int o = 0; o < kOut; ++o) {
        const View& view = e.view[o];
        if ((a.transposed >> o & 1) != 0) {
          raw.bits[o] = static_cast<typename RawElement<C>::Bits>(
              shared.load(tile_slot(a.transposed, o) + r * kTilePitch + fast));
        } else if (present(e, o)) {
          raw.bits[o] = static_cast<typename RawElement<C>::Bits>(
              load_bits(view.address + offsets.at[o], view.dtype, view.aligned));
        }
      }
      if (present(e, kScaleView)) {
        raw.scale = load<uint64_t>(e.view[kScaleView].address + offsets.at[kScaleView]);
      }
      const Element<C> element = convert<C>(e, raw);
      const C results[2] = {present(e, kGradOutput) ? gradient_of(e, element) : loss_of(e, element),
                            loss_of(e, element)};
      MSELOSS_UNROLL
      for (int o = kOut; o <= kLossOut; ++o) {
        if (!present(e, o)) continue;
        if ((a.transposed >> o & 1) != 0) {
          shared.store(tile_slot(a.transposed, o) + r * kTilePitch + fast,
                       round_twice(results[o - kOut], e.dtype, e.view[o].dtype));
        } else {
          store_result(e, o, offsets.at[o], results[o - kOut]);
        }
      }
    }
    __syncthreads();
    MSELOSS_UNROLL
    for (int o = kOut; o <= kLossOut; ++o) {
      if ((a.transposed >> o & 1) == 0) continue;
      const View& view = e.view[o];
      const int slot = tile_slot(a.transposed, o);
      for (int c = slow; c < position.columns; c += kTileRows) {
        if (fast >= position.rows) continue;
        const int64_t offset = position.origin.at[o] + fast * view.stride[row] + c * view.stride[column];
        store_bits(view.address + offset, shared.load(slot + fast * kTilePitch + c), view.dtype,
                   view.aligned);
      }
    }
  }
}

}  // namespace mseloss::cuda
