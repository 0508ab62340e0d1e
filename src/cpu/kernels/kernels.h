// The kernels' dispatch tables: one per instruction-set target, all filled from the same source
// (docs/architecture.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "mseloss/types.h"
#include "numerics/sum_access.h"
#include "plan/plan.h"

namespace mseloss::cpu {

// Rows of n elements each. The plan guarantees, and the kernels assume:
// - each operand's row is n contiguous elements of the kernel's dtype (of a mask, n bytes) or, if strided[o]
//   is false, one element that is broadcast along the row; pitches are distances between rows in elements;
// - an output is exactly one of the inputs or overlaps none of them;
// - scale is exact in the compute dtype. No alignment is assumed.
struct RowBlock {
  void* at[kOperands];  // null for operands that the sweep does not use
  ptrdiff_t pitch[kOperands];
  bool strided[kOperands];
  size_t n;
  size_t rows;
  double scale;
  // at[kLossOut] of sums of slices: the accumulators of the slices, planes of float64 that are `plane`
  // elements apart: high, low and error of the sum of squares, then of the weights (kSlicePlanes,
  // kWeightedSlicePlanes).
  ptrdiff_t plane;
  bool whole_slices;  // each row is all of its slice, whose accumulators are 0
  bool masked;        // of slices: the weight is 0 or 1, and elements of weight 0 are left out
};

inline constexpr int kSlicePlanes = 3, kWeightedSlicePlanes = 6;
inline constexpr int kSlicePadding = 16;  // elements past the last slice that the kernels access

// What an exact sum with weights adds to.
struct ExactSums {
  uint64_t* limbs;  // of w * d^2, then of w
  bool masked;
  double special, weight_special;  // the sums of the terms that are not finite
  uint64_t selected;               // with a mask, the number of elements that it selects
};

inline constexpr ptrdiff_t kLineBytes = 64;  // a cache line
inline constexpr ptrdiff_t kPackPrefetchBytes =
    8192;  // prefetch distance: into the next tile, where a copy resumes

inline constexpr int kFloatDTypes = 4;  // indexed by DType; bool has no kernels

// Kernels exist for vectors of 16 bytes, 32 bytes and the target's full width, because a row shorter than a
// vector passes through a buffer, which costs as much as several vectors.
inline constexpr int kWidths = 3;
inline int width_of(size_t row_bytes) { return row_bytes < 32 ? 0 : row_bytes < 64 ? 1 : 2; }

// Byte offsets of one contiguous part of a copy on either side.
struct Segment {
  ptrdiff_t from, to;
};

// Pack: from an operand, which may lie in any level of the memory hierarchy, to a packed tile. Unpack: from a
// packed tile to an operand, with cached stores or, where they are faster, non-temporal stores.
enum class Direction : uint8_t { kPack, kUnpack, kUnpackNonTemporal };

// Sizes of elements are indexed by log2(bytes). Of the bytes of masks only `transpose` has a kernel.
inline constexpr int kElementSizes = 4;
inline int element_size_index(int size) { return size == 8 ? 3 : size / 2; }

struct Kernels {
  // out = ((input - target) * scale) * grad_output, by width_of(bytes of a row).
  void (*grad[kFloatDTypes][kWidths])(const RowBlock&);
  // The same with non-temporal stores.
  void (*grad_non_temporal[kFloatDTypes])(const RowBlock&);
  // out = (input - target)^2, by width_of().
  void (*loss[kFloatDTypes][kWidths])(const RowBlock&);
  // The fast sum of (input - target)^2 over at most kSumBlock elements.
  void (*sum[kFloatDTypes])(const RowBlock&, RowSum*);
  // Both in one sweep, with one grad_output for all elements; [dtype][non-temporal].
  void (*grad_and_sum[kFloatDTypes][2])(const RowBlock&, RowSum*);
  // The exact sum into limbs; squares of non-finite differences are added to *special instead.
  void (*exact_sum[kFloatDTypes])(const RowBlock&, uint64_t* limbs, double* special);
  // The same with weights, or with a mask: out = ((input - target) * scale) * (weight * grad_output);
  // [dtype][mask][non-temporal].
  void (*weighted_grad[kFloatDTypes][2][2])(const RowBlock&);
  // The first with a scale for each slice, of the compute dtype, at at[kLossOut], with pitch and stride as
  // for slice_sums; [dtype][non-temporal].
  void (*slice_grad[kFloatDTypes][2])(const RowBlock&);
  // out = (input - target)^2 * weight; [dtype][mask].
  void (*weighted_loss[kFloatDTypes][2])(const RowBlock&);
  // The fast sums of weight * (input - target)^2 and of weight over at most kSumBlock elements.
  // [dtype][mask].
  void (*weighted_sum[kFloatDTypes][2])(const RowBlock&, WeightedRowSum*);
  // Both in one sweep, with one grad_output for all elements; [dtype][mask][non-temporal].
  void (*weighted_grad_and_sum[kFloatDTypes][2][2])(const RowBlock&, WeightedRowSum*);
  void (*weighted_exact_sum[kFloatDTypes][2])(const RowBlock&, ExactSums*);  // [dtype][mask]
  // Adds the fast sums to the accumulators of slices; if strided[kLossOut], each column belongs to another
  // slice, else each row is a part of one; [dtype][weighted].
  void (*slice_sums[kFloatDTypes][2])(const RowBlock&);
  // The same without weights, and the gradient in the same loop; [dtype][non-temporal]. Returns false, having
  // done nothing, for blocks that are faster in two loops, such as short rows.
  bool (*grad_and_slice_sums[kFloatDTypes][2])(const RowBlock&);
  // out[i] = (sum of slice i) / divisor, rounded to the dtype of `out`, or store_pending() where the fast
  // sums leave the rounding open; divisor 0: the slice's sum of weights, or the number of elements that a
  // mask selects. The planes have kSlicePadding elements past `count`. Returns whether every slice is
  // decided. [dtype of out][with weights that are not a mask].
  bool (*round_slices[kFloatDTypes][2])(const double* planes, ptrdiff_t plane, size_t count, double divisor,
                                        void* out);
  // The same for scales[i] = 2 / (sum of weights of slice i), whose planes these are; for float32 and
  // float64.
  bool (*slice_scales[kFloatDTypes])(const double* planes, ptrdiff_t plane, size_t count, bool masked,
                                     void* scales);
  // The number of bytes that are not 0.
  uint64_t (*count_true)(const void* bytes, size_t n);
  // to[i] = from[i] ? 1 : 0; `from` has bytes.
  void (*convert_mask[kFloatDTypes])(const void* from, void* to, size_t n);
  // to[i] = from[i], rounded once; [from][to].
  void (*convert[kFloatDTypes][kFloatDTypes])(const void* from, void* to, size_t n);

  // For each segment, to[i * to_stride + j] = from[j * from_stride + i], i < rows, j < columns; strides in
  // elements. May read (and ignore) memory between the elements, up to `from_end`.
  void (*transpose[kElementSizes])(const Segment* segments, size_t count, const void* from,
                                   ptrdiff_t from_stride, void* to, ptrdiff_t to_stride, size_t rows,
                                   size_t columns, const void* from_end, Direction direction);
  // to[i * to_stride + j] = from[j * from_stride + i], i < rows <= from_stride <= kMaxInterleave.
  void (*deinterleave[kElementSizes])(const void* from, ptrdiff_t from_stride, void* to, ptrdiff_t to_stride,
                                      size_t rows, size_t columns);
  // to[i * columns + j] = from[j * from_stride + i], i < rows, j < columns <= kMaxInterleave.
  void (*interleave[kElementSizes])(const void* from, ptrdiff_t from_stride, void* to, size_t rows,
                                    size_t columns);
  // For each segment, to[i] = from[i * stride], i < n, 1 < stride <= max_stride. May read (and ignore) memory
  // between the elements.
  void (*load_strided[kElementSizes])(const Segment* segments, size_t count, const void* from,
                                      ptrdiff_t stride, void* to, size_t n);
  // For each segment, to[i * stride] = from[i].
  void (*store_strided[kElementSizes])(const Segment* segments, size_t count, const void* from, void* to,
                                       ptrdiff_t stride, size_t n);
  ptrdiff_t max_stride[kElementSizes];  // of load_strided and store_strided; 0 if there are none
  // Copies `bytes` bytes for each segment.
  void (*copy_segments)(const Segment* segments, size_t count, const void* from, void* to, size_t bytes,
                        Direction direction);
  // to[i * pitch + j] = from[i], i < rows, j < n, n >= 2. `from` may be the last `rows` elements of the
  // rows * pitch destination elements. May write up to kReplicateOverrun bytes past the end.
  void (*replicate[kElementSizes])(const void* from, void* to, size_t rows, size_t n, size_t pitch);
};

inline constexpr ptrdiff_t kMaxInterleave = 4;
inline constexpr int kReplicateOverrun = 16;

// Short enough for the sum's error bound to stay small, long enough to amortise its fixed costs.
inline constexpr size_t kSumBlock = 16384;

const Kernels& kernels();  // of the target in use

// Each fills its part of the table for one target. The first four are compiled once per dtype.
template <DType kDType>
void fill_elementwise_kernels(Kernels* kernels, size_t target, bool native_bfloat16);
template <DType kDType>
void fill_sums_kernels(Kernels* kernels, size_t target, bool native_bfloat16);
template <DType kDType>
void fill_slices_kernels(Kernels* kernels, size_t target, bool native_bfloat16);
template <DType kDType>
void fill_weighted_kernels(Kernels* kernels, size_t target, bool native_bfloat16);
void fill_copy_kernels(Kernels* kernels, size_t target);
void fill_interleave_kernels(Kernels* kernels, size_t target);
void fill_replicate_kernels(Kernels* kernels, size_t target);
void fill_transpose_kernels(Kernels* kernels, size_t target);

}  // namespace mseloss::cpu

// At the end of a file that Highway compiles for every target, once: defines NAME_kernels(), which calls the
// target's NAME(kernels).
#define MSELOSS_EXPORT_KERNELS(name)                                                                  \
  namespace mseloss::cpu {                                                                            \
  HWY_EXPORT(name);                                                                                   \
  void name##_kernels(Kernels* kernels, size_t target) { HWY_DISPATCH_TABLE(name)[target](kernels); } \
  }
// The same in a file with one object per dtype.
#define MSELOSS_EXPORT_DTYPE_KERNELS(name)                                                                   \
  namespace mseloss::cpu {                                                                                   \
  HWY_EXPORT(name);                                                                                          \
  template <>                                                                                                \
  void name##_kernels<DType::MSELOSS_KERNEL_DTYPE>(Kernels * kernels, size_t target, bool native_bfloat16) { \
    HWY_DISPATCH_TABLE(name)[target](kernels, native_bfloat16);                                              \
  }                                                                                                          \
  }
