// Compiled once for each vector width; LOOPS is the name of the table.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "bench/contenders/ceiling.h"

namespace bench {
namespace {

#if defined(__AVX512F__)
constexpr size_t kWidth = 64;
#elif defined(__AVX2__)
constexpr size_t kWidth = 32;
#else
constexpr size_t kWidth = 16;
#endif
typedef uint64_t Vector __attribute__((vector_size(kWidth), may_alias));

Vector load(const char* from) { return *reinterpret_cast<const Vector*>(from); }

template <bool kNonTemporal>
void store(char* to, Vector v) {
  if constexpr (kNonTemporal) {
#if defined(__AVX512F__)
    return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(v));
#elif defined(__AVX2__)
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(v));
#elif defined(__x86_64__)
    return _mm_stream_si128(reinterpret_cast<__m128i*>(to), reinterpret_cast<__m128i>(v));
#endif
  }
  *reinterpret_cast<Vector*>(to) = v;
}

// Never zeros: some machines store zeroed cache lines non-temporally at twice the speed.
template <int kReads>
Vector combined(const char* const* in, size_t i) {
  Vector v{};
  if (kReads == 0) v += 0x3ff0123456789abcu;
  for (int r = 0; r < kReads; ++r) v ^= load(in[r] + i);
  return v;
}

template <int kReads, bool kNonTemporal>
void write(const char* const* in, char* out, size_t bytes) {
  const char* const from[] = {in[0], in[1], in[2]};
  for (size_t i = 0; i < bytes; i += 4 * kWidth) {
    for (size_t k = 0; k < 4; ++k)
      store<kNonTemporal>(out + i + k * kWidth, combined<kReads>(from, i + k * kWidth));
  }
#if defined(__x86_64__)
  if constexpr (kNonTemporal) _mm_sfence();
#endif
}

template <int kReads>
char read(const char* const* in, size_t bytes) {
  const char* const from[] = {in[0], in[1], in[2]};
  Vector sum[4] = {};
  for (size_t i = 0; i < bytes; i += 4 * kWidth) {
    for (size_t k = 0; k < 4; ++k) sum[k] ^= combined<kReads>(from, i + k * kWidth);
  }
  sum[0] ^= sum[1] ^ sum[2] ^ sum[3];
  char folded = 0, bytes_of_sum[kWidth];
  std::memcpy(bytes_of_sum, &sum[0], kWidth);
  for (const char byte : bytes_of_sum) folded ^= byte;
  return folded;
}

// widen() returns 64 values, in `to` if the type needs a conversion.
template <class T>
struct Native {  // float, double
  using Memory = T;
  using Wide = T;
  static const T* widen(const T* from, T*) { return from; }
};

struct BFloat16 {
  using Memory = uint16_t;
  using Wide = float;
  static const float* widen(const uint16_t* from, float* to) {
    uint32_t bits[64];
    for (size_t k = 0; k < 64; ++k) bits[k] = static_cast<uint32_t>(from[k]) << 16;
    std::memcpy(to, bits, sizeof(bits));
    return to;
  }
};

#if defined(__F16C__)
struct Float16 {
  using Memory = uint16_t;
  using Wide = float;
  static const float* widen(const uint16_t* from, float* to) {
#if defined(__AVX512F__)
    for (size_t k = 0; k < 64; k += 16) {
      _mm512_storeu_ps(to + k,
                       _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + k))));
    }
#else
    for (size_t k = 0; k < 64; k += 8) {
      _mm256_storeu_ps(to + k, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + k))));
    }
#endif
    return to;
  }
};
#endif

template <class S>
double squares(const void* x_bytes, const void* y_bytes, size_t n) {
  const auto* x = static_cast<const typename S::Memory*>(x_bytes);
  const auto* y = static_cast<const typename S::Memory*>(y_bytes);
  double sum[64] = {};
  for (size_t i = 0; i + 64 <= n; i += 64) {
    typename S::Wide x_wide[64], y_wide[64];
    const auto* a = S::widen(x + i, x_wide);
    const auto* b = S::widen(y + i, y_wide);
    for (size_t k = 0; k < 64; ++k) {
      const double d = a[k] - b[k];
      sum[k] += d * d;
    }
  }
  double total = 0;
  for (const double part : sum) total += part;
  return total;
}

}  // namespace

extern const CeilingLoops LOOPS;
const CeilingLoops LOOPS = {
    {{&write<0, false>, &write<0, true>},
     {&write<1, false>, &write<1, true>},
     {&write<2, false>, &write<2, true>},
     {&write<3, false>, &write<3, true>}},
    {&read<0>, &read<1>, &read<2>, &read<3>},
#if defined(__F16C__)
    {&squares<Native<float>>, &squares<Float16>, &squares<BFloat16>, &squares<Native<double>>},
#else
    {&squares<Native<float>>, nullptr, &squares<BFloat16>, &squares<Native<double>>},
#endif
};

}  // namespace bench
