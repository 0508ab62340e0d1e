// Shared by the tests of the forward operator: checks of a loss against the exact reference through every API
// that computes it, and data whose sum lies on or next to a rounding boundary.
#pragma once

#include <cstdio>

#include "tests/support/cases.h"
#include "tests/support/exact.h"

namespace cases {

using mseloss::PartialSum;

// Counts the sums compared with the reference, and those that the fast sweep could not round.
struct Tally {
  int64_t sums = 0, undecided = 0;
  ~Tally() {
    std::printf("[  SUMS    ] %lld sums correctly rounded; the exact sweep was needed for %lld\n",
                static_cast<long long>(sums), static_cast<long long>(undecided));
  }
};

inline exact::Fixed fixed_of(double v) {
  exact::Fixed fixed;
  fixed.add_value(v);
  return fixed;
}

// |sum.fast_sum() - exact| <= sum.bound(), compared as integers.
inline bool bound_holds(const PartialSum& sum, const exact::Fixed& exact) {
  if (!std::isfinite(sum.bound()) || !std::isfinite(sum.fast_sum())) return true;
  exact::Fixed above = fixed_of(sum.fast_sum()), below = exact;
  above.add_value(sum.bound());
  below.add_value(sum.bound());
  return exact <= above && fixed_of(sum.fast_sum()) <= below;
}

// Checks kMean or kSum through loss(), with and without Options::exact, and through a PartialSum in both
// modes.
inline testing::AssertionResult sum_is_right(Random& random, const ConstTensor& x, const ConstTensor& y,
                                             Reduction reduction, DType to, Tally* tally) {
  exact::Sum reference;
  reference.add(oracle::differences(x, y));
  const uint64_t expected = reference.rounded(reduction, to);
  Operand out(random, to, {}, Layout::kDense, true);
  std::ostringstream what;
  what << "\n  " << mseloss::name_of(reduction) << " to " << mseloss::name_of(to) << ", target "
       << mseloss::target();
  print_to(what, "input", x);
  print_to(what, "target", y);

  Options options = random_options(random);
  for (const bool exact : {false, true}) {
    options.exact = exact;
    const auto before = out.storage();
    const Status status = mseloss::loss(x, y, reduction, out.tensor(), options);
    if (!status.ok()) return testing::AssertionFailure() << status.message() << what.str();
    const auto result = holds(out, {expected}, before);
    if (!result)
      return testing::AssertionFailure() << (exact ? "exact " : "fast ") << result.message() << what.str();
  }
  options.exact = false;
  for (const auto mode : {PartialSum::Mode::kFast, PartialSum::Mode::kExact}) {
    const bool exact = mode == PartialSum::Mode::kExact;
    PartialSum sum;
    if (!sum.add(x, y, mode, options).ok()) return testing::AssertionFailure() << "add" << what.str();
    if (sum.count() != reference.count() || (sum.count() && sum.exact() != exact))
      return testing::AssertionFailure() << "count or exact()" << what.str();
    if (!exact && reference.finite() && !bound_holds(sum, reference.fixed()))
      return testing::AssertionFailure() << "fast sum " << sum.fast_sum() << " is not within " << sum.bound()
                                         << " of the exact sum" << what.str();
    const auto before = out.storage();
    if (!sum.finish(reduction, to, out.tensor().data)) {
      ++tally->undecided;
      if (exact || before != out.storage())
        return testing::AssertionFailure() << "undecided although exact, or written" << what.str();
    } else if (const auto result = holds(out, {expected}, before); !result) {
      return testing::AssertionFailure() << "PartialSum " << result.message() << what.str();
    }
  }
  ++tally->sums;
  return testing::AssertionSuccess();
}

// Two vectors whose elementwise differences are `d`, with random signs, and `zeros` zeros, in random order.
inline std::pair<Operand, Operand> pair_with(Random& random, DType dtype, std::vector<double> d,
                                             int64_t zeros) {
  d.resize(d.size() + static_cast<size_t>(zeros));
  for (size_t k = d.size(); k > 1; --k)
    std::swap(d[k - 1], d[static_cast<size_t>(random.range(0, static_cast<int64_t>(k) - 1))]);
  const Shape shape{static_cast<int64_t>(d.size())};
  std::pair<Operand, Operand> pair{Operand(random, dtype, shape, Layout::kAny, true),
                                   Operand(random, dtype, shape, Layout::kAny, true)};
  for (size_t k = 0; k < d.size(); ++k) {
    double x = random.chance(50) ? d[k] : -d[k], y = 0;
    if (d[k] == 0) x = y = oracle::decode(dtype, random_finite(random, dtype));
    if (random.chance(50)) std::swap(x, y);
    oracle::store(dtype, pair.first.at(static_cast<int64_t>(k)), oracle::encode(dtype, x));
    oracle::store(dtype, pair.second.at(static_cast<int64_t>(k)), oracle::encode(dtype, y));
  }
  return pair;
}

// Numbers of at most `precision` bits whose squares add up to `total`; each is the largest that still fits.
inline std::vector<double> squares_adding_to(unsigned __int128 total, int precision) {
  std::vector<double> roots;
  while (total != 0) {
    auto root = static_cast<uint64_t>(sqrtl(static_cast<long double>(total)));
    while (static_cast<unsigned __int128>(root) * root > total) --root;
    const int drop = std::max(0, static_cast<int>(std::bit_width(root)) - precision);
    root = root >> drop << drop;
    roots.push_back(static_cast<double>(root));
    total -= static_cast<unsigned __int128>(root) * root;
  }
  return roots;
}

struct HardSum {
  std::vector<double> differences;
  int64_t zeros = 0;
};

// Differences, exact in `from`, whose squares have a sum or mean on the midpoint between two neighbouring
// values of `to`, or next to it. Empty if the random exponents do not fit the formats.
inline HardSum hard_sum(Random& random, DType from, DType to, Reduction reduction) {
  const auto in = oracle::format_of(from), out = oracle::format_of(to);
  const int p = out.precision;
  // The midpoint is (2 m + 1) * 2^(last - 1), where `last` is the exponent of the result's last bit.
  const int highest = out.max_exponent - p + 1;
  uint64_t m = (uint64_t{1} << (p - 1)) | random.bits() >> (65 - p);
  int last = static_cast<int>(random.range(std::max(-60, out.lowest_exponent), std::min(60, highest)));
  switch (random.range(0, 5)) {
    case 0:  // subnormal results
      last = out.lowest_exponent, m = random.bits() >> random.range(65 - p, 63);
      break;
    case 1:  // the overflow threshold
      last = highest, m = (uint64_t{1} << p) - 1;
      break;
    case 2:
      last = static_cast<int>(random.range(out.lowest_exponent, highest));
      break;
    default:
      break;
  }
  const int64_t count = reduction == Reduction::kMean ? random.range(60, 200) : 1;
  int extra = static_cast<int>(random.range(0, std::max(0, 110 - p - 8)));
  if ((last - 1 - extra) % 2 != 0) ++extra;
  const int half = (last - 1 - extra) / 2;  // roots are integers times 2^half
  const int bits = (p + 1 + extra + (count > 1 ? 8 : 0)) / 2 + 1;
  if (half < in.lowest_exponent || half + bits > in.max_exponent || bits > 58) return {};
  auto total = (static_cast<unsigned __int128>(m) << 1 | 1) << extra;
  total *= static_cast<unsigned __int128>(count);
  total += static_cast<unsigned __int128>(random.range(-1, 1));
  HardSum sum{squares_adding_to(total, in.precision), random.range(0, 40)};
  for (double& root : sum.differences) root = std::ldexp(root, half);
  if (count > 1) sum.zeros = count - static_cast<int64_t>(sum.differences.size());
  return sum.zeros < 0 ? HardSum{} : sum;
}

}  // namespace cases
