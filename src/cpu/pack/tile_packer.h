// Packs one operand's part of a tile into contiguous scratch memory, or unpacks it.
#pragma once

#include "cpu/pack/segment_list.h"
#include "plan/plan.h"

namespace mseloss::cpu {

// Bytes past a packed tile that packing may write.
inline constexpr int kPackedTileSlack = kReplicateOverrun;
// Bytes of the staging buffer that copy() needs, aligned to a cache line. The caller provides it, because it
// is too large for a small stack.
inline constexpr int64_t kStageBytes = 18 * 1024;

class TilePacker {
 public:
  // For tiles of these extents; strides count elements of `size` bytes. The packed tile's strides are
  // positive and descending. When packing, an operand stride of 0 replicates elements.
  void prepare(Direction direction, int rank, const int64_t* extent, const int64_t* operand,
               const int64_t* packed, int size);
  bool is_prepared_for(int rank, const int64_t* extent) const;
  // Copies one tile in the prepared direction. `stage` has kStageBytes.
  void copy(const char* from, char* to, char* stage) const;

 private:
  // A tile is copied in segments or 2-D blocks of one kind, which span dims_[column_] and dims_[row_].
  enum class Kind : uint8_t {
    kContiguous,        // segments, contiguous on both sides
    kStrided,           // segments, contiguous in the packed tile and with a small stride in the operand
    kTranspose,         // blocks, contiguous along the row on one side and along the column on the other
    kStridedTranspose,  // the same with a small stride in the operand
    kElements,          // blocks, copied element by element
  };

  int find_replication(int rank, const int64_t* extent, const int64_t* operand, const int64_t* packed,
                       int64_t* compact);
  void merge_dimensions(int rank, const int64_t* extent, const int64_t* operand, const int64_t* packed);
  void choose_kind();
  void choose_element_block();
  ptrdiff_t operand_stride(const PackDimension& dimension) const;
  ptrdiff_t operand_distance(const PackDimension& dimension) const;  // |operand_stride|
  bool is_strided(const PackDimension& dimension) const;
  PackDimension row() const { return row_ < 0 ? PackDimension{1, 0, 0} : dims_[row_]; }

  void copy_contiguous(const char* from, char* to) const;
  void copy_strided(const char* from, char* to) const;
  void copy_strided_segments(const Segment* segments, size_t count, const char* from, char* to,
                             const PackDimension& strided, int64_t n) const;
  void transpose(const char* from, char* to) const;
  void transpose_strided(const char* from, char* to, char* stage) const;
  void copy_elements(const char* from, char* to) const;
  void repeat_blocks(char* packed) const;
  void replicate_elements(const char* from, char* packed) const;

  const Kernels* kernels_;  // of the target in use during prepare()
  int tile_rank_ = -1;
  int64_t tile_extent_[kMaxRank];
  int size_;
  Direction direction_;
  Kind kind_;
  int64_t rows_, copies_, pitch_;  // replicate_elements(): source elements, copies of each, row pitch
  int rank_;
  PackDimension dims_[kMaxRank];  // merged where adjacent on both sides; the packed tile's innermost first
  int repeats_;
  PackDimension repeat_[kMaxRank];  // dimensions whose blocks repeat_blocks() copies inside the packed tile
  int column_, row_;                // indices into dims_; row_ is -1 if a segment has only a column
  SegmentList segments_;            // along the other dimensions
};

}  // namespace mseloss::cpu
