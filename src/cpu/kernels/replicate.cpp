// Replicates elements along the innermost dimension of a packed tile, for broadcast operands. It moves bits,
// so only the element size matters.
#include "cpu/kernels/highway_targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/kernels/replicate.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <cstring>
#include <type_traits>

#include "cpu/kernels/kernels.h"

#ifndef MSELOSS_REPLICATE_CPP_
#define MSELOSS_REPLICATE_CPP_
namespace mseloss::cpu {

constexpr size_t kBlockBytes = 16;                 // every target has byte shuffles of 16 bytes
constexpr size_t kShuffleBytes = 2 * kBlockBytes;  // rows below this are made by shuffles, others by Set()

// Shuffle indices that replicate each kSize-byte element of one block n times: for each of the n output
// blocks, the source byte of each of its bytes. The tables for n = 2, 3, ... are stored consecutively.
template <size_t kSize>
struct ReplicateTables {
  static constexpr size_t kMaxRow = kShuffleBytes / kSize - 1;
  static constexpr size_t first(size_t n) { return (n - 2) * (n + 1) / 2; }  // 2 + ... + (n - 1)

  alignas(64) uint8_t bytes[first(kMaxRow + 1)][kBlockBytes] = {};
  constexpr ReplicateTables() {
    for (size_t n = 2; n <= kMaxRow; ++n) {
      for (size_t i = 0; i < n * kBlockBytes; ++i) {
        bytes[first(n) + i / kBlockBytes][i % kBlockBytes] =
            static_cast<uint8_t>(i / kSize / n * kSize + i % kSize);
      }
    }
  }
};
template <size_t kSize>
inline constexpr ReplicateTables<kSize> kReplicateTables;

}  // namespace mseloss::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Rows of at least one vector; without kLong, of at most two.
template <bool kLong, class D>
HWY_INLINE void replicate_rows(D d, const hn::TFromD<D>* from, hn::TFromD<D>* to, size_t rows, size_t n,
                               size_t pitch) {
  const auto row = [&](size_t r) MSELOSS_INLINE {
    hn::TFromD<D> element;
    std::memcpy(&element, from + r, sizeof(element));
    const auto copies = hn::Set(d, element);
    auto* out = to + r * pitch;
    hn::StoreU(copies, d, out);
    for (size_t i = hn::Lanes(d); kLong && i + hn::Lanes(d) < n; i += hn::Lanes(d))
      hn::StoreU(copies, d, out + i);
    hn::StoreU(copies, d, out + n - hn::Lanes(d));
  };
  size_t r = 0;
  for (; !kLong && r + 4 <= rows; r += 4) {
    for (size_t k = 0; k < 4; ++k) row(r + k);
  }
  for (; r < rows; ++r) row(r);
}

template <class T>
void replicate(const void* from_bytes, void* to_bytes, size_t rows, size_t n, size_t pitch) {
  const T* from = static_cast<const T*>(from_bytes);
  T* to = static_cast<T*>(to_bytes);
#if HWY_TARGET != HWY_SCALAR
  constexpr size_t kBlock = kBlockBytes / sizeof(T);
  const hn::FixedTag<T, kBlock> d16;
  const hn::CappedTag<T, 2 * kBlock> d32;
  const hn::CappedTag<T, 4 * kBlock> d64;
  if (n >= 2 * kBlock) {
    if (n >= 2 * hn::Lanes(d64)) return replicate_rows<true>(d64, from, to, rows, n, pitch);
    if (n >= hn::Lanes(d64)) return replicate_rows<false>(d64, from, to, rows, n, pitch);
    return replicate_rows<false>(d32, from, to, rows, n, pitch);
  }
  if (n >= kBlock && n != pitch) return replicate_rows<false>(d16, from, to, rows, n, pitch);
  if (n == pitch && n >= 2) {
    const hn::FixedTag<uint8_t, kBlockBytes> d;
    const auto* table = kReplicateTables<sizeof(T)>.bytes + ReplicateTables<sizeof(T)>::first(n);
    const auto shuffle = [&](const T* block, size_t r, auto blocks) MSELOSS_INLINE {
      const auto elements = hn::LoadU(d, reinterpret_cast<const uint8_t*>(block));
      auto* out = reinterpret_cast<uint8_t*>(to + r * n);
      for (size_t k = 0; k < blocks; ++k) {
        hn::StoreU(hn::TableLookupBytes(elements, hn::Load(d, table[k])), d, out + k * kBlockBytes);
      }
    };
    size_t r = 0;
    const auto full_blocks = [&](auto blocks) MSELOSS_INLINE {
      for (; r + kBlock <= rows; r += kBlock) {
        __builtin_prefetch(from + r + kPackPrefetchBytes / sizeof(T));
        shuffle(from + r, r, blocks);
      }
    };
    // A constant length lets the compiler unroll the shortest loops.
    if (n == 2) {
      full_blocks(std::integral_constant<size_t, 2>());
    } else if (n == 3) {
      full_blocks(std::integral_constant<size_t, 3>());
    } else {
      full_blocks(n);
    }
    if (r == rows) return;
    HWY_ALIGN T tail[kBlock] = {};
    std::memcpy(tail, from + r, (rows - r) * sizeof(T));
    shuffle(tail, r, ((rows - r) * n + kBlock - 1) / kBlock);
    return;
  }
#endif
  for (size_t r = 0; r < rows; ++r, to += pitch) {
    T element;
    std::memcpy(&element, from + r, sizeof(element));
    for (size_t i = 0; i < n; ++i) std::memcpy(to + i, &element, sizeof(element));
  }
}

void fill_replicate(Kernels* kernels) {
  kernels->replicate[1] = &replicate<uint16_t>;
  kernels->replicate[2] = &replicate<uint32_t>;
  kernels->replicate[3] = &replicate<uint64_t>;
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
MSELOSS_EXPORT_KERNELS(fill_replicate)
#endif
