// Copies one operand's part of a box into its tile, or back.
#pragma once

#include "cpu/pieces.h"
#include "plan/plan.h"

namespace mseloss::cpu {

// Bytes behind a tile that a copy into it may write.
inline constexpr int kTileSlack = kSpreadSlack;

class TileCopy {
 public:
  // For boxes of these extents; strides in elements of `size` bytes. The tile's are positive and descending;
  // a stride of 0 in a gathered operand repeats its elements.
  void prepare(Way way, int rank, const int64_t* extent, const int64_t* operand, const int64_t* tile,
               int size);
  bool fits(int rank, const int64_t* extent) const;
  void copy(const char* from, char* to) const;

 private:
  // A box is copied in pieces of one kind, each of dims_[column_] and dims_[row_].
  enum class Kind : uint8_t {
    kRun,         // a column, contiguous on both sides
    kSpaced,      // a column, contiguous in the tile and nearly so in the operand
    kTurn,        // contiguous along the one on one side and along the other on the other
    kTurnSpaced,  // the same, nearly contiguous in the operand
    kPlane,       // element by element
  };

  int find_repetition(int rank, const int64_t* extent, const int64_t* operand, const int64_t* tile,
                      int64_t* compact);
  void merge_dimensions(int rank, const int64_t* extent, const int64_t* operand, const int64_t* tile);
  void choose_piece();
  void choose_plane();
  ptrdiff_t operand_stride(const CopyDimension& dimension) const;
  ptrdiff_t operand_distance(const CopyDimension& dimension) const;  // between neighbours along it
  bool is_spaced(const CopyDimension& dimension) const;
  CopyDimension row() const { return row_ < 0 ? CopyDimension{1, 0, 0} : dims_[row_]; }
  void copy_runs(const char* from, char* to) const;
  void move_spaced(const Piece* pieces, size_t count, const char* from, char* to, const CopyDimension& spaced,
                   int64_t n) const;
  void copy_spaced(const char* from, char* to) const;
  void turn_planes(const char* from, char* to) const;
  void turn_spaced_planes(const char* from, char* to) const;
  void copy_planes(const char* from, char* to) const;
  void repeat(char* tile) const;
  void spread(const char* from, char* tile) const;

  const Kernels* kernels_;  // of the target that was in use when the pieces were chosen
  int box_rank_ = -1;
  int64_t box_[kMaxRank];
  int size_;
  Way way_;
  Kind kind_;
  int64_t rows_, copies_, pitch_;   // of each element gathered, so many copies, at so many elements' distance
  int rank_, repeats_;              // of what is left when neighbours on both sides are merged
  CopyDimension dims_[kMaxRank];    // innermost of the tile first
  CopyDimension repeat_[kMaxRank];  // dimensions whose blocks are copied inside the tile
  int column_, row_;                // the row is -1 where a piece has none
  Pieces pieces_;                   // along the other dimensions
};

}  // namespace mseloss::cpu
