// The exact sweep of a sum, in integers: what the fast sweep left undecided. docs/cuda.md has the argument.
//
// A thread keeps its sum as high + low. Both additions are error-free transformations; what does not fit into
// low is spilled into the block's cells, digits of 16 bits in words of 32 that have room for 2^15 additions.
// Before the room is used up, the block moves its cells into words of 64 bits.
#pragma once

#include "cuda/kernels/sums.h"

namespace mseloss::cuda {

inline constexpr int kExactUnroll = 4;  // elements of a thread between two barriers
// Of one element, at most 2 values are added to the cells of a sum; at the end of a thread's terms, 2 more.
inline constexpr int kCellRoom = 32767;
inline constexpr int kTileAdditions = kThreads * kExactUnroll * 2;
inline constexpr int kFinalAdditions = kThreads * 2;
enum Flag : uint32_t { kNan = 1, kPlusInfinity = 2, kMinusInfinity = 4, kWeightFlags = 3 };  // 3: a shift

struct ExactMemory {
  Shared<int32_t> cells;  // the sum, then the sum of the weights
  Shared<int64_t> words;
  Shared<uint32_t> flags;
};

// Adds an integer of at most 3 words times 2^bit, where bit 0 is that of cell 0.
MSELOSS_DEVICE void add_integer(const ExactMemory& memory, int first_cell, const uint64_t (&words)[3],
                                int bit, bool negative) {
  const int shift = bit % 16;
  int cell = first_cell + bit / 16;
  uint64_t carry = 0;  // bits of the word below, shifted
  MSELOSS_UNROLL
  for (int i = 0; i < 3; ++i) {
    MSELOSS_UNROLL
    for (int part = 0; part < 4; ++part) {
      const uint64_t bits = ((words[i] >> (16 * part) & 0xffff) << shift) | carry;
      const int digit = static_cast<int>(bits & 0xffff);
      if (digit != 0) memory.cells.add(cell, negative ? -digit : digit);
      carry = bits >> 16;
      ++cell;
    }
  }
  if (carry != 0) memory.cells.add(cell, negative ? -static_cast<int>(carry) : static_cast<int>(carry));
}

MSELOSS_DEVICE bool is_negative(double value) { return bits_as<uint64_t>(value) >> 63 != 0; }

MSELOSS_DEVICE void add_value(const ExactMemory& memory, int first_cell, double value) {
  const Decomposed v = decompose(value);
  const uint64_t words[3] = {v.significand, 0, 0};
  if (v.significand == 0) return;
  add_integer(memory, first_cell, words, v.exponent - PartialSum::kLowestBit, is_negative(value));
}

// w d^2 as the product of three integers.
MSELOSS_DEVICE void add_product(const ExactMemory& memory, double w, double d) {
  const Decomposed root = decompose(d), factor = decompose(w);
  const uint64_t m = root.significand, v = factor.significand;
  if (m == 0 || v == 0) return;
  const uint64_t low = m * m, high = __umul64hi(m, m);
  const uint64_t middle = high * v, carry = __umul64hi(low, v);
  const uint64_t words[3] = {low * v, middle + carry, __umul64hi(high, v) + (middle + carry < middle)};
  add_integer(memory, 0, words, 2 * root.exponent + factor.exponent - PartialSum::kLowestBit, is_negative(w));
}

struct Cascade {
  double high, low;
};

MSELOSS_DEVICE void add_exactly(const ExactMemory& memory, int first_cell, Cascade* sum, double value) {
  double high, low;
  const double rest = two_sum(sum->high, value, &high);
  const double spilled = two_sum(sum->low, rest, &low);
  *sum = {high, low};
  if (spilled != 0) add_value(memory, first_cell, spilled);
}

MSELOSS_DEVICE uint32_t flag_of(double value) {
  return value != value ? kNan : value > 0 ? kPlusInfinity : kMinusInfinity;
}

// Whether products of the value with others like it neither overflow nor lose bits to underflow in float64.
MSELOSS_DEVICE bool is_moderate_factor(double v) {
  return v == 0 || (magnitude(v) < 0x1p200 && magnitude(v) > 0x1p-200);
}

struct ExactTerms {
  Cascade squares, weights;
};

template <class C>
MSELOSS_DEVICE void add_element(const SumArguments& a, const ExactMemory& memory, const Element<C>& e,
                                ExactTerms* terms) {
  const double w = e.weight;
  if (a.element.masked && w == 0) return;
  if (a.element.masked || a.weighted) {
    if (!is_finite(w)) {
      memory.flags.add_bits(0, flag_of(w) << kWeightFlags);
    } else if (magnitude(w) < 0x1p900) {
      add_exactly(memory, kDigits, &terms->weights, w);
    } else {  // a sum of such could overflow
      add_value(memory, kDigits, w);
    }
  }
  if (a.weights_only) return;
  const C d = subtract(e.input, e.target);
  if (!is_finite(d) || (a.weighted && !is_finite(w))) {
    const double size = magnitude(d);
    memory.flags.add_bits(0, flag_of(a.weighted ? multiply(w, size) : size));
    return;
  }
  if (sizeof(C) == 8 && !(is_moderate_factor(d) && (!a.weighted || is_moderate_factor(w)))) {
    add_product(memory, a.weighted ? w : 1, d);
    return;
  }
  double term, residual;
  split_square(d, &term, &residual);
  if (!a.weighted) {
    add_exactly(memory, 0, &terms->squares, term);
    if (sizeof(C) == 8) add_exactly(memory, 0, &terms->squares, residual);
  } else if (sizeof(C) == 8) {
    add_product(memory, w, d);
  } else {
    split_product(w, term, 0, &term, &residual);  // exact: 72 bits
    add_exactly(memory, 0, &terms->squares, term);
    add_exactly(memory, 0, &terms->squares, residual);
  }
}

// Moves the cells into the words.
MSELOSS_DEVICE void flush(const ExactMemory& memory) {
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kDigits; i += kThreads) {
    const int32_t cell = memory.cells.load(i);
    if (cell == 0) continue;
    memory.words.store(i, memory.words.load(i) + cell);
    memory.cells.store(i, 0);
  }
  __syncthreads();
}

MSELOSS_DEVICE uint64_t digit_address(const SumArguments& a, int64_t slice, int word) {
  return a.digits + (slice * kDigitWords + word) * 8;
}

// Adds the block's words to the slice's; true in the last block, whose words are then the slice's.
MSELOSS_DEVICE bool gather(const SumArguments& a, int64_t slice, const ExactMemory& memory,
                           const Shared<uint32_t>& flag) {
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kDigits; i += kThreads) {
    const int64_t word = memory.words.load(i);
    if (word != 0) add_global(digit_address(a, slice, i), static_cast<uint64_t>(word));
  }
  if (threadIdx.x == 0 && memory.flags.load(0) != 0) {
    add_bits_global(digit_address(a, slice, kFlagsWord), memory.flags.load(0));
  }
  if (!is_last(digit_address(a, slice, kTicketWord), gridDim.y, flag)) return false;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kDigits; i += kThreads) {
    memory.words.store(i, load_coherent<int64_t>(digit_address(a, slice, i)));
  }
  if (threadIdx.x == 0) {
    memory.flags.store(0, load_coherent<uint32_t>(digit_address(a, slice, kFlagsWord)));
  }
  __syncthreads();
  return true;
}

MSELOSS_DEVICE double special_of(uint32_t flags) {
  flags &= 7;
  if (flags == 0) return 0;
  if (flags == kPlusInfinity) return INFINITY;
  return flags == kMinusInfinity ? -INFINITY : NAN;
}

// Carries the words of one sum into 64-bit limbs.
MSELOSS_DEVICE void to_limbs(const int64_t* words, uint64_t* limbs) {
  int64_t carry = 0;
  for (int limb = 0; limb < PartialSum::kLimbs; ++limb) {
    uint64_t bits = 0;
    for (int i = 0; i < 4; ++i) {
      // The low digit is added on its own, so that the sum of a word and a carry cannot overflow.
      const int64_t word = words[4 * limb + i], low = (word & 0xffff) + (carry & 0xffff);
      bits |= static_cast<uint64_t>(low & 0xffff) << (16 * i);
      carry = (word >> 16) + (carry >> 16) + (low >> 16);
    }
    limbs[limb] = bits;
  }
}

// Rounds and writes the sum of a slice, by one thread.
MSELOSS_DEVICE void round_exactly(const SumArguments& a, int64_t slice, const ExactMemory& memory,
                                  const Shared<uint64_t>& work) {
  constexpr int kLimbs = PartialSum::kLimbs;
  const int64_t* words = memory.words.own(0, 2 * kDigits);
  uint64_t* limbs = work.own(0, 2 * kLimbs + kFinishWork);
  const bool only = a.weights_only;
  const uint32_t flags = memory.flags.load(0);
  to_limbs(words + (only ? kDigits : 0), limbs);
  to_limbs(words + kDigits, limbs + kLimbs);
  SumState state;
  const uint64_t n = static_cast<uint64_t>(a.element.nest.terms);
  state.squares.special = special_of(only ? flags >> kWeightFlags : flags);
  if (a.element.masked) {
    // The weights of a mask sum to an integer: the 64 bits from the unit on.
    constexpr int kUnitBit = -PartialSum::kLowestBit, kLimb = kUnitBit / 64, kShift = kUnitBit % 64;
    static_assert(kShift != 0);
    state.count = limbs[kLimbs + kLimb] >> kShift | limbs[kLimbs + kLimb + 1] << (64 - kShift);
  } else if (a.weighted) {
    state.weighted = n;
    if (!only) state.weights.special = special_of(flags >> kWeightFlags);
  } else {
    state.count = n;
  }
  if (a.kind == Result::kState) {
    store_state(a.result.address, state);
    const uint64_t address = a.result.address + kStateWords * sizeof(uint64_t);
    for (int i = 0; i < 2 * kLimbs; ++i) store(address + i * sizeof(uint64_t), limbs[i]);
    return;
  }
  double value = 0;
  round_sum<false>(a, state, limbs, limbs + 2 * kLimbs, &value);
  store_bits(result_address(a, slice), encode_exact(value, a.result.dtype), a.result.dtype, a.result.aligned);
}

// One block, or the gridDim.y blocks of a slice, for each slice that is pending.
template <class C>
MSELOSS_KERNEL(2)
exact_sum(MSELOSS_PARAMETER(SumArguments, a)) {
  MSELOSS_SHARED(int32_t, cells, 2 * kDigits);
  MSELOSS_SHARED(int64_t, words, 2 * kDigits);
  MSELOSS_SHARED(uint64_t, work, 2 * PartialSum::kLimbs + kFinishWork);
  MSELOSS_SHARED(uint32_t, flags, 1);
  MSELOSS_SHARED(uint32_t, flag, 1);
  const ExactMemory memory{cells, words, flags};
  const Nest& nest = a.element.nest;
  for (int64_t slice = blockIdx.x; slice < nest.slices; slice += gridDim.x) {
    if (!a.always && load_bits(result_address(a, slice), a.result.dtype, a.result.aligned) !=
                         pending_bits(a.result.dtype)) {
      continue;
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < 2 * kDigits; i += kThreads) {
      cells.store(i, 0);
      words.store(i, 0);
    }
    if (threadIdx.x == 0) flags.store(0, 0);
    __syncthreads();
    Offsets base{};
    locate(a.element, 0, nest.kept, static_cast<uint64_t>(slice), &base);
    ExactTerms terms{};
    int used = kFinalAdditions;
    const int64_t first = blockIdx.y * a.exact_per_part;
    const int64_t end = first + a.exact_per_part < nest.terms ? first + a.exact_per_part : nest.terms;
    for (int64_t tile = first; tile < end; tile += kThreads * kExactUnroll) {
      if (used + kTileAdditions > kCellRoom) {
        flush(memory);
        used = kFinalAdditions;
      }
      used += kTileAdditions;
      for (int u = 0; u < kExactUnroll; ++u) {
        const int64_t index = tile + u * kThreads + threadIdx.x;
        if (index >= end) continue;
        Offsets offsets = base;
        locate(a.element, nest.kept, nest.rank, static_cast<uint64_t>(index), &offsets);
        add_element(a, memory, convert<C>(a.element, load_raw<C>(a.element, offsets)), &terms);
      }
    }
    add_value(memory, 0, terms.squares.high);
    add_value(memory, 0, terms.squares.low);
    add_value(memory, kDigits, terms.weights.high);
    add_value(memory, kDigits, terms.weights.low);
    flush(memory);
    if (gridDim.y > 1 && !gather(a, slice, memory, flag)) continue;
    if (threadIdx.x == 0) round_exactly(a, slice, memory, work);
    __syncthreads();
  }
}

}  // namespace mseloss::cuda
