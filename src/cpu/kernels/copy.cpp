// Copies of short contiguous segments between an operand and a packed tile, which move bits, so that only
// sizes matter; and the count of a mask's bytes.
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/copy.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <cstring>

#include "cpu/kernels/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Segments of kPart to 2 * kPart bytes: two copies that may overlap.
template <size_t kPart>
HWY_INLINE void copy_two_parts(const Segment* segments, size_t count, const char* from, char* to,
                               size_t bytes, Direction direction) {
  using Part [[gnu::vector_size(kPart)]] = char;
  for (const Segment* p = segments; p != segments + count; ++p) {
    const char* a = from + p->from;
    char* b = to + p->to;
    __builtin_prefetch((direction == Direction::kPack ? a : b) + kPackPrefetchBytes);
    Part head, tail;
    std::memcpy(&head, a, kPart);
    std::memcpy(&tail, a + bytes - kPart, kPart);
    std::memcpy(b, &head, kPart);
    std::memcpy(b + bytes - kPart, &tail, kPart);
  }
}

HWY_INLINE void copy_long_segment(const char* from, char* to, size_t bytes, Direction direction) {
  using Part [[gnu::vector_size(64)]] = char;
  Part tail;
  std::memcpy(&tail, from + bytes - sizeof(tail), sizeof(tail));
  for (size_t i = 0; i + sizeof(tail) < bytes; i += sizeof(tail)) {
    // The hardware prefetchers restart with each segment.
    __builtin_prefetch((direction == Direction::kPack ? from : to) + i + kPackPrefetchBytes);
    std::memcpy(to + i, from + i, sizeof(tail));
  }
  std::memcpy(to + bytes - sizeof(tail), &tail, sizeof(tail));
}

template <size_t kSize>
HWY_INLINE void copy_elements(const Segment* segments, size_t count, const char* from, char* to,
                              Direction direction) {
  for (const Segment* p = segments; p != segments + count; ++p) {
    __builtin_prefetch((direction == Direction::kPack ? from + p->from : to + p->to) + kPackPrefetchBytes);
    std::memcpy(to + p->to, from + p->from, kSize);
  }
}

void copy_segments(const Segment* segments, size_t count, const void* from_bytes, void* to_bytes,
                   size_t bytes, Direction direction) {
  const char* from = static_cast<const char*>(from_bytes);
  char* to = static_cast<char*>(to_bytes);
  if (bytes == 1) return copy_elements<1>(segments, count, from, to, direction);
  if (bytes == 2) return copy_elements<2>(segments, count, from, to, direction);
  if (bytes == 3) return copy_two_parts<2>(segments, count, from, to, bytes, direction);
  if (bytes == 4) return copy_elements<4>(segments, count, from, to, direction);
  if (bytes == 8) return copy_elements<8>(segments, count, from, to, direction);
  if (bytes < 8) return copy_two_parts<4>(segments, count, from, to, bytes, direction);
  if (bytes < 16) return copy_two_parts<8>(segments, count, from, to, bytes, direction);
  if (bytes <= 32) return copy_two_parts<16>(segments, count, from, to, bytes, direction);
  if (bytes <= 64) return copy_two_parts<32>(segments, count, from, to, bytes, direction);
  if (bytes <= 128) return copy_two_parts<64>(segments, count, from, to, bytes, direction);
  for (const Segment* p = segments; p != segments + count; ++p) {
    copy_long_segment(from + p->from, to + p->to, bytes, direction);
  }
}

// The number of bytes that are not 0.
uint64_t count_true(const void* from, size_t n) {
  const hn::ScalableTag<uint8_t> d;
  const auto* bytes = static_cast<const uint8_t*>(from);
  const size_t lanes = hn::Lanes(d);
  uint64_t zeros = 0;
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    zeros += hn::CountTrue(d, hn::Eq(hn::LoadU(d, bytes + i), hn::Zero(d)));
  }
  for (; i < n; ++i) zeros += bytes[i] == 0;
  return n - zeros;
}

void fill_copy(Kernels* kernels) {
  kernels->copy_segments = &copy_segments;
  kernels->count_true = &count_true;
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
MSELOSS_EXPORT_KERNELS(fill_copy)
#endif
