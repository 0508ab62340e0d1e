// Copies one operand's part of a box into its tile, or back.
#pragma once

#include "cpu/kernels.h"
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
  struct Dimension {
    int64_t extent;
    ptrdiff_t from, to;
  };
  // A box is copied in pieces of one kind, at places that are listed once.
  enum class Kind : uint8_t {
    kElement,
    kRun,    // dims_[0], contiguous on both sides
    kPlane,  // dims_[0] and dims_[row_]
    kTurn,   // the same, contiguous along one on one side and along the other on the other
  };
  static constexpr int kPieces = 256;  // listed: 4 KiB

  int find_repetition(int rank, const int64_t* extent, const int64_t* operand, const int64_t* tile,
                      int64_t* compact);
  void merge_dimensions(int rank, const int64_t* extent, const int64_t* operand, const int64_t* tile);
  ptrdiff_t operand_distance(const Dimension& dimension) const;  // between neighbours along it
  static bool splits_rows(const Dimension& column);
  Kind choose_kind();
  void list_pieces();
  template <class F>
  static void for_each_index(const Dimension* first, const Dimension* last, F f);
  template <class F>
  void for_each_list(F f) const;
  template <class F>
  void for_each_piece(const char* from, char* to, F f) const;
  void copy_runs(const char* from, char* to) const;
  void copy_planes(const char* from, char* to) const;
  void turn_planes(const char* from, char* to) const;
  void repeat(char* tile) const;
  void spread(const char* from, char* tile) const;

  int box_rank_ = -1;
  int64_t box_[kMaxRank];
  int size_;
  Way way_;
  Kind kind_;
  int64_t rows_, copies_, pitch_;  // of each element gathered, so many copies, at so many elements' distance
  int rank_, repeats_;             // of what is left when neighbours on both sides are merged
  Dimension dims_[kMaxRank];       // innermost of the tile first
  Dimension repeat_[kMaxRank];     // dimensions whose blocks are copied inside the tile
  int row_;                        // the dimension of dims_ along which the operand is most nearly contiguous
  Dimension others_[kMaxRank];     // those that a piece does not have: the first of them listed,
  int others_count_, listed_;
  int64_t chunk_;  // and of the next so many indices, each of
  int64_t inner_;  // so many pieces
  Piece pieces_[kPieces];
};

}  // namespace mseloss::cpu
