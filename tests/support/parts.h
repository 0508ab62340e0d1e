// Random weights, and random partial sums with their exact reference.
#pragma once

#include "tests/support/weighted.h"

namespace weighted {

using mseloss::PartialSum;

enum class Weights { kPositive, kBinary, kSigned, kHuge, kSubnormal, kSpecial, kMask };
inline constexpr Weights kWeights[] = {Weights::kPositive, Weights::kBinary,    Weights::kSigned,
                                       Weights::kHuge,     Weights::kSubnormal, Weights::kSpecial,
                                       Weights::kMask};

inline DType weight_dtype(Random& random, DType promoted, Weights kind) {
  if (kind == Weights::kMask) return DType::kBool;
  for (;;) {
    const DType dtype = random.pick(kDTypes);
    if (oracle::promoted_dtype(promoted, dtype) == promoted) return dtype;
  }
}

inline uint64_t random_weight(Random& random, DType dtype, Weights kind) {
  const auto format = oracle::format_of(dtype);
  switch (kind) {
    case Weights::kPositive:
      return oracle::encode(dtype, random.unit());
    case Weights::kBinary:
      return oracle::encode(dtype, random.chance(50));
    case Weights::kSigned:
      return oracle::encode(dtype, random.chance(40) ? random.range(-3, 3) : 2 * random.unit() - 1);
    case Weights::kHuge:
      return random_finite(random, dtype);
    case Weights::kSubnormal:
      return oracle::encode(dtype,
                            std::ldexp(static_cast<double>(random.range(-9, 9)), format.lowest_exponent));
    case Weights::kSpecial:
      return random.chance(70) ? oracle::encode(dtype, random.unit())
                               : random_value(random, dtype, Values::kSpecial);
    case Weights::kMask:
      break;
  }
  // Any byte but 0 is true.
  return random.chance(60) ? static_cast<uint64_t>(random.pick({1, 1, 1, 2, 128, 255})) : 0;
}

inline void fill_weights(Random& random, Operand& w, Weights kind) {
  for (int64_t i = 0, n = w.count(); i < n; ++i) {
    const uint64_t bits = random_weight(random, w.dtype(), kind);
    if (w.dtype() == DType::kBool)
      *w.at(i) = static_cast<std::byte>(bits);
    else
      oracle::store(w.dtype(), w.at(i), bits);
  }
}

// A partial sum of up to 60 random elements, fast or exact, with or without weights; adds the same elements
// to `all`.
inline PartialSum random_part(Random& random, DType dtype, Slice* all) {
  const int64_t n = random.range(0, 60);
  const Weights kind = random.pick({Weights::kPositive, Weights::kSigned, Weights::kHuge, Weights::kMask});
  const bool plain = random.chance(30);
  Operand x(random, dtype, {n}, Layout::kAny), y(random, dtype, {n}, Layout::kAny);
  Operand w(random, weight_dtype(random, dtype, kind), {n}, Layout::kAny);
  const Values values = random.pick(kValues);
  x.fill(random, values);
  y.fill(random, values);
  fill_weights(random, w, kind);
  const ConstTensor weight = w.view();
  const auto d = oracle::differences(x.view(), y.view());
  for (int64_t i = 0; i < n; ++i) {
    const double wi = plain ? 1 : weight_at(&weight, x.shape(), i);
    if (plain || kind != Weights::kMask || wi != 0) all->add(d[static_cast<size_t>(i)], wi);
  }
  const auto mode = random.chance(50) ? PartialSum::Mode::kFast : PartialSum::Mode::kExact;
  PartialSum sum;
  EXPECT_TRUE((plain ? sum.add(x.view(), y.view(), mode) : sum.add(x.view(), y.view(), weight, mode)).ok());
  return sum;
}

}  // namespace weighted
