#include "bench/measure/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <vector>

#include "tests/support/oracle.h"

namespace bench {

Arena::Arena(size_t bytes) : size_((bytes + (2 << 20) - 1) >> 21 << 21) {
  data_ = static_cast<char*>(std::aligned_alloc(2 << 20, size_));
  if (data_ == nullptr) throw std::bad_alloc();
  madvise(data_, size_, MADV_HUGEPAGE);
  std::memset(data_, 0, size_);
}

Arena::~Arena() { std::free(data_); }

int grid_bits(mseloss::DType dtype) {
  switch (dtype) {
    case mseloss::DType::kFloat16:
      return 9;
    case mseloss::DType::kBFloat16:
      return 6;
    case mseloss::DType::kFloat32:
      return 22;
    default:
      return 42;
  }
}

namespace {

// Repeats kPeriod random elements; write(random, element) makes one.
template <class Write>
void fill_periodically(const Arena& arena, int element_bytes, unsigned seed, const Write& write) {
  constexpr size_t kPeriod = 65521;
  const size_t size = static_cast<size_t>(element_bytes), block = kPeriod * size;
  std::vector<char> values(block);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < kPeriod; ++i) write(random, values.data() + i * size);
  for (size_t first = 0; first < arena.size(); first += block) {
    std::memcpy(arena.data() + first, values.data(), std::min(block, arena.size() - first));
  }
}

}  // namespace

void fill(const Arena& arena, mseloss::DType dtype, unsigned seed) {
  const int64_t span = int64_t{2} << grid_bits(dtype);
  std::uniform_int_distribution<int64_t> grid(1 - span, span - 1);
  fill_periodically(arena, oracle::bytes_of(dtype), seed, [&](auto& random, char* element) {
    const double value = std::ldexp(static_cast<double>(grid(random)), -grid_bits(dtype));
    oracle::store(dtype, element, oracle::encode(dtype, value));
  });
}

void fill_weights(const Arena& arena, mseloss::DType dtype, unsigned seed) {
  std::uniform_int_distribution<int> units(1, (2 << kWeightBits) - 1);
  fill_periodically(arena, oracle::bytes_of(dtype), seed, [&](auto& random, char* element) {
    const int value = units(random);
    if (dtype == mseloss::DType::kBool) {
      *element = static_cast<char>(value & 1);
    } else {
      oracle::store(dtype, element, oracle::encode(dtype, std::ldexp(value, -kWeightBits)));
    }
  });
}

}  // namespace bench
