// Short runs and repeated elements between an operand and its tile: bits are moved, so only sizes matter.
#include "cpu/targets.h"  // before Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/runs.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <cstring>
#include <type_traits>

#include "cpu/kernels.h"

#ifndef MSELOSS_RUNS_CPP_
#define MSELOSS_RUNS_CPP_
namespace mseloss::cpu {

constexpr size_t kBlockBytes = 16;  // of a spread by shuffles: what every target can look up bytes in
constexpr size_t kShuffleBytes = 2 * kBlockBytes;  // from rows of so many bytes on, whole vectors are stored

// For rows of `n` copies of elements of kSize bytes: the blocks that one block of elements becomes, as the
// bytes of it that stand there. Tables of all n one behind the other.
template <size_t kSize>
struct SpreadTables {
  static constexpr size_t kMost = kShuffleBytes / kSize - 1;
  static constexpr size_t first(size_t n) { return (n - 2) * (n + 1) / 2; }  // 2 + ... + (n - 1)

  alignas(64) uint8_t bytes[first(kMost + 1)][kBlockBytes] = {};
  constexpr SpreadTables() {
    for (size_t n = 2; n <= kMost; ++n) {
      for (size_t i = 0; i < n * kBlockBytes; ++i) {
        bytes[first(n) + i / kBlockBytes][i % kBlockBytes] =
            static_cast<uint8_t>(i / kSize / n * kSize + i % kSize);
      }
    }
  }
};
template <size_t kSize>
inline constexpr SpreadTables<kSize> kSpreadTables;

}  // namespace mseloss::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace mseloss::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Bytes: far enough for a copy that stops at the end of each box to have the next box's part on its way.
constexpr ptrdiff_t kRunsAhead = 8192;

// Runs of kPart to 2 * kPart bytes, as two moves that may overlap.
template <size_t kPart>
HWY_INLINE void copy_runs_of(const Piece* pieces, size_t count, const char* from, char* to, size_t bytes,
                             Way way) {
  using Part [[gnu::vector_size(kPart)]] = char;
  for (const Piece* p = pieces; p != pieces + count; ++p) {
    const char* a = from + p->from;
    char* b = to + p->to;
    __builtin_prefetch((way == Way::kGather ? a : b) + kRunsAhead);
    Part head, tail;
    std::memcpy(&head, a, kPart);
    std::memcpy(&tail, a + bytes - kPart, kPart);
    std::memcpy(b, &head, kPart);
    std::memcpy(b + bytes - kPart, &tail, kPart);
  }
}

HWY_INLINE void copy_long_run(const char* from, char* to, size_t bytes, Way way) {
  using Part [[gnu::vector_size(64)]] = char;
  Part tail;
  std::memcpy(&tail, from + bytes - sizeof(tail), sizeof(tail));
  for (size_t i = 0; i + sizeof(tail) < bytes; i += sizeof(tail)) {
    // The processor's own prefetchers start anew with each run.
    __builtin_prefetch((way == Way::kGather ? from : to) + i + kRunsAhead);
    std::memcpy(to + i, from + i, sizeof(tail));
  }
  std::memcpy(to + bytes - sizeof(tail), &tail, sizeof(tail));
}

template <size_t kSize>
HWY_INLINE void copy_elements(const Piece* pieces, size_t count, const char* from, char* to, Way way) {
  for (const Piece* p = pieces; p != pieces + count; ++p) {
    __builtin_prefetch((way == Way::kGather ? from + p->from : to + p->to) + kRunsAhead);
    std::memcpy(to + p->to, from + p->from, kSize);
  }
}

void copy_runs(const Piece* pieces, size_t count, const void* from_bytes, void* to_bytes, size_t bytes,
               Way way) {
  const char* from = static_cast<const char*>(from_bytes);
  char* to = static_cast<char*>(to_bytes);
  if (bytes == 2) return copy_elements<2>(pieces, count, from, to, way);
  if (bytes == 4) return copy_elements<4>(pieces, count, from, to, way);
  if (bytes == 8) return copy_elements<8>(pieces, count, from, to, way);
  if (bytes < 8) return copy_runs_of<4>(pieces, count, from, to, bytes, way);
  if (bytes < 16) return copy_runs_of<8>(pieces, count, from, to, bytes, way);
  if (bytes <= 32) return copy_runs_of<16>(pieces, count, from, to, bytes, way);
  if (bytes <= 64) return copy_runs_of<32>(pieces, count, from, to, bytes, way);
  if (bytes <= 128) return copy_runs_of<64>(pieces, count, from, to, bytes, way);
  for (const Piece* p = pieces; p != pieces + count; ++p) {
    copy_long_run(from + p->from, to + p->to, bytes, way);
  }
}

// Rows of at least a vector each; without kLong of at most two.
template <bool kLong, class D>
HWY_INLINE void spread_rows(D d, const hn::TFromD<D>* from, hn::TFromD<D>* to, size_t rows, size_t n,
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
void spread(const void* from_bytes, void* to_bytes, size_t rows, size_t n, size_t pitch) {
  const T* from = static_cast<const T*>(from_bytes);
  T* to = static_cast<T*>(to_bytes);
#if HWY_TARGET != HWY_SCALAR
  constexpr size_t kBlock = kBlockBytes / sizeof(T);
  const hn::FixedTag<T, kBlock> d16;
  const hn::CappedTag<T, 2 * kBlock> d32;
  const hn::CappedTag<T, 4 * kBlock> d64;
  if (n >= 2 * kBlock) {
    if (n >= 2 * hn::Lanes(d64)) return spread_rows<true>(d64, from, to, rows, n, pitch);
    if (n >= hn::Lanes(d64)) return spread_rows<false>(d64, from, to, rows, n, pitch);
    return spread_rows<false>(d32, from, to, rows, n, pitch);
  }
  if (n >= kBlock && n != pitch) return spread_rows<false>(d16, from, to, rows, n, pitch);
  if (n == pitch && n >= 2) {
    const hn::FixedTag<uint8_t, kBlockBytes> d;
    const auto* table = kSpreadTables<sizeof(T)>.bytes + SpreadTables<sizeof(T)>::first(n);
    const auto period = [&](const T* block, size_t r, auto blocks) MSELOSS_INLINE {
      const auto elements = hn::LoadU(d, reinterpret_cast<const uint8_t*>(block));
      auto* out = reinterpret_cast<uint8_t*>(to + r * n);
      for (size_t k = 0; k < blocks; ++k) {
        hn::StoreU(hn::TableLookupBytes(elements, hn::Load(d, table[k])), d, out + k * kBlockBytes);
      }
    };
    size_t r = 0;
    const auto whole_periods = [&](auto blocks) MSELOSS_INLINE {
      for (; r + kBlock <= rows; r += kBlock) {
        __builtin_prefetch(from + r + kRunsAhead / sizeof(T));
        period(from + r, r, blocks);
      }
    };
    // Short loops of a known length are unrolled.
    if (n == 2) {
      whole_periods(std::integral_constant<size_t, 2>());
    } else if (n == 3) {
      whole_periods(std::integral_constant<size_t, 3>());
    } else {
      whole_periods(n);
    }
    if (r == rows) return;
    HWY_ALIGN T rest[kBlock] = {};
    std::memcpy(rest, from + r, (rows - r) * sizeof(T));
    period(rest, r, ((rows - r) * n + kBlock - 1) / kBlock);
    return;
  }
#endif
  for (size_t r = 0; r < rows; ++r, to += pitch) {
    T element;
    std::memcpy(&element, from + r, sizeof(element));
    for (size_t i = 0; i < n; ++i) std::memcpy(to + i, &element, sizeof(element));
  }
}

void fill_runs(Kernels* kernels) {
  kernels->copy_runs = &copy_runs;
  kernels->spread[0] = &spread<uint16_t>;
  kernels->spread[1] = &spread<uint32_t>;
  kernels->spread[2] = &spread<uint64_t>;
}

}  // namespace mseloss::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mseloss::cpu {
HWY_EXPORT(fill_runs);
void fill_runs_kernels(Kernels* kernels, size_t target) { HWY_DISPATCH_TABLE(fill_runs)[target](kernels); }
}  // namespace mseloss::cpu
#endif
