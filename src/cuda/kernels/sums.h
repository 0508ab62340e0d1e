// The fast sweep of a sum: float64 accumulators with a bound, merged by the last block, which also decides
// whether the bound leaves one rounded value. docs/cuda.md proves the bounds.
#pragma once

#include <cstddef>

#include "cuda/kernels/elementwise.h"
#include "numerics/rounding_test.h"

namespace mseloss::cuda {

// high + low approximates a sum, size the sum of the magnitudes.
struct Pair {
  double high, low, size;
};
struct Terms {
  Pair squares;  // (w) d^2
  Pair weights;  // w
};
static_assert(sizeof(Terms) == kTermDoubles * sizeof(double));

// Adds term + residual. `is_signed`: the terms may be negative, so that their size is a sum of its own.
MSELOSS_DEVICE void accumulate(Pair* sum, double term, double residual, bool is_signed) {
  double high;
  const double error = two_sum(sum->high, term, &high);
  sum->high = high;
  sum->low = add(sum->low, add(error, residual));
  if (is_signed) sum->size = add(sum->size, magnitude(term));
}
MSELOSS_DEVICE void merge(Pair* sum, const Pair& other) {
  double high;
  const double error = two_sum(sum->high, other.high, &high);
  sum->high = high;
  sum->low = add(sum->low, add(error, other.low));
  sum->size = add(sum->size, other.size);
}
MSELOSS_DEVICE void merge(Terms* terms, const Terms& other) {
  merge(&terms->squares, other.squares);
  merge(&terms->weights, other.weights);
}

// d^2 and w d^2 as unevaluated sums.
MSELOSS_DEVICE void split_square(float d, double* term, double* residual) {
  *term = multiply(static_cast<double>(d), static_cast<double>(d));  // exact: 48 bits
  *residual = 0;
}
MSELOSS_DEVICE void split_square(double d, double* term, double* residual) {
  *term = multiply(d, d);
  *residual = fused(d, d, -*term);
}
MSELOSS_DEVICE void split_product(double w, double square, double rest, double* term, double* residual) {
  *term = multiply(square, w);
  *residual = add(fused(square, w, -*term), multiply(rest, w));
}

// The sum of one element.
template <class C>
MSELOSS_DEVICE void accumulate_element(const SumArguments& a, const Element<C>& e, Terms* terms) {
  if (a.element.masked) {
    if (e.weight == 0) return;
    terms->weights.high = add(terms->weights.high, 1);
  } else if (a.weighted) {
    accumulate(&terms->weights, e.weight, 0, true);
  }
  if (a.weights_only) return;
  double term, residual;
  split_square(subtract(e.input, e.target), &term, &residual);
  if (a.weighted) split_product(e.weight, term, residual, &term, &residual);
  accumulate(&terms->squares, term, residual, a.weighted);
}

// The bound of docs/cuda.md for sums of pairs.
MSELOSS_DEVICE double pair_bound(const SumArguments& a, const Terms& terms, const Pair& sum) {
  const double h = static_cast<double>(a.shape.depth) + 4;
  const double n = static_cast<double>(a.element.nest.terms);
  const double size = a.weighted ? sum.size : sum.high;
  const double underflow = a.element.dtype == DType::kFloat64 ? 0x1p-1070 * (terms.weights.size + n) : 0;
  return 8 * h * h * kUnit * kUnit * size * kSlack + underflow;
}

// The sums as SumState has them. Where a term or a sum is not finite, the error is infinite unless the terms
// cannot overflow: then the sum is the result. `narrow`: squares and weights have the range of float32.
MSELOSS_DEVICE SumState state_of(const SumArguments& a, const Terms& terms, double squares_error,
                                 double weights_error, bool narrow) {
  SumState state;
  const uint64_t n = static_cast<uint64_t>(a.element.nest.terms);
  Pair squares = terms.squares;  // a copy: a choice between two references would need an address
  if (a.weights_only) squares = terms.weights;
  if (a.element.masked) {
    state.count = static_cast<uint64_t>(terms.weights.high);
  } else {
    (a.weighted ? state.weighted : state.count) = n;
  }
  state.fast_terms = state.count + state.weighted;
  if (a.element.masked && a.weights_only) return state;
  const bool plain_squares = narrow && !a.weighted, plain_weights = narrow && a.kind == Result::kState;
  const auto set = [&](FastSum* sum, const Pair& pair, double error, bool plain) {
    if (is_finite(pair.high) && is_finite(pair.low) && is_finite(error)) {
      *sum = {pair.high, pair.low, error, 0};
    } else if (plain && !is_finite(pair.high)) {
      sum->special = pair.high;
    } else {
      sum->error = INFINITY;
    }
  };
  set(&state.squares, squares, a.weights_only ? weights_error : squares_error,
      a.weights_only ? plain_weights : plain_squares);
  if (a.weighted && !a.weights_only) set(&state.weights, terms.weights, weights_error, plain_weights);
  return state;
}

template <bool kAllFast>
MSELOSS_DEVICE bool round_sum(const SumArguments& a, const SumState& state, const uint64_t* limbs,
                              uint64_t* work, double* value) {
  if (a.kind == Result::kLoss) {
    return finish_sum<kAllFast>(state, limbs, a.reduction, a.result.dtype, work, value);
  }
  const DType compute = a.element.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  return finish_scale<kAllFast>(state, limbs, 1, compute, work, value);
}

MSELOSS_DEVICE uint64_t result_address(const SumArguments& a, int64_t slice) {
  uint64_t index = static_cast<uint64_t>(slice), address = a.result.address;
  for (int d = a.element.nest.kept - 1; d >= 0; --d) {
    const uint64_t rest = d == 0 ? 0 : divide(index, a.element.nest.divisor[d]);
    address += (index - rest * static_cast<uint64_t>(a.element.nest.extent[d])) * a.result.stride[d];
    index = rest;
  }
  return address;
}

MSELOSS_DEVICE void store_state(uint64_t address, const SumState& state) {
  store(address, state.count);
  store(address + 8, state.weighted);
  store(address + 16, state.fast_terms);
  const auto store_sum = [](uint64_t to, const FastSum& sum) {
    store(to, sum.high);
    store(to + 8, sum.low);
    store(to + 16, sum.error);
    store(to + 24, sum.special);
  };
  store_sum(address + 24, state.squares);
  store_sum(address + 56, state.weights);
}
static_assert(offsetof(SumState, squares) == 24 && offsetof(SumState, weights) == 56 &&
              sizeof(SumState) == 88 && sizeof(FastSum) == 32);

// Writes the rounded sum of a slice, or marks it as pending and clears its cells for the exact sweep.
MSELOSS_DEVICE void decide(const SumArguments& a, int64_t slice, const SumState& state) {
  if (a.kind == Result::kState) return store_state(a.result.address, state);
  double value = 0;
  const bool decided = round_sum<true>(a, state, nullptr, nullptr, &value);
  store_bits(result_address(a, slice),
             decided ? encode_exact(value, a.result.dtype) : pending_bits(a.result.dtype), a.result.dtype,
             a.result.aligned);
  if (decided || a.digits == 0) return;
  MSELOSS_LOOP
  for (int i = 0; i < kDigitWords; ++i) {
    store(a.digits + (slice * kDigitWords + i) * 8, uint64_t{0});
  }
}

// Where a thread stands in its block: which slice of the group, and which of the slice's threads.
struct Team {
  int slice, lane, slices;
};
MSELOSS_DEVICE Team find_team(const SumShape& shape) {
  const int thread = static_cast<int>(threadIdx.x), slices = kThreads / shape.team;
  if (shape.columns) return {thread % slices, thread / slices, slices};
  return {thread / shape.team, thread % shape.team, slices};
}
// The position in shared memory of a lane's terms.
MSELOSS_DEVICE int slot_of(const SumShape& shape, const Team& team, int lane) {
  return shape.columns ? lane * team.slices + team.slice : team.slice * shape.team + lane;
}

// Adds the terms of all lanes; lane 0 has the result.
MSELOSS_DEVICE Terms add_lanes(const SumShape& shape, const Team& team, const Shared<Terms>& shared,
                               Terms terms) {
  shared.store(slot_of(shape, team, team.lane), terms);
  for (int half = shape.team / 2; half > 0; half /= 2) {
    __syncthreads();
    if (team.lane >= half) continue;
    merge(&terms, shared.load(slot_of(shape, team, team.lane + half)));
    shared.store(slot_of(shape, team, team.lane), terms);
  }
  return terms;
}

MSELOSS_DEVICE uint64_t partial_address(const SumArguments& a, int64_t slice, int64_t part) {
  return a.partials + (slice * gridDim.y + part) * sizeof(Terms);
}
MSELOSS_DEVICE void publish(uint64_t address, const Terms& terms) {
  const Pair pairs[2] = {terms.squares, terms.weights};
  MSELOSS_UNROLL
  for (int i = 0; i < 2; ++i) {
    store_coherent(address + i * sizeof(Pair), pairs[i].high);
    store_coherent(address + i * sizeof(Pair) + 8, pairs[i].low);
    store_coherent(address + i * sizeof(Pair) + 16, pairs[i].size);
  }
}
MSELOSS_DEVICE Pair collect(uint64_t address) {
  return {load_coherent<double>(address), load_coherent<double>(address + 8),
          load_coherent<double>(address + 16)};
}

// True in all threads of the block that is the last of `blocks` to arrive. What the others wrote before with
// store_coherent() is then visible to load_coherent().
MSELOSS_DEVICE bool is_last(uint64_t ticket, uint32_t blocks, const Shared<uint32_t>& flag) {
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();  // releases what the whole block wrote before the barrier
    flag.store(0, add_global(ticket, uint32_t{1}) == blocks - 1);
    __threadfence();  // acquires what the other blocks released
  }
  __syncthreads();
  return flag.load(0) != 0;
}

// Merges the sums of a group's threads, then of its parts in the last block, and decides. `to_state(terms)`
// adds the bound.
template <class ToState>
MSELOSS_DEVICE void finish_group(const SumArguments& a, int64_t group, Terms terms,
                                 const Shared<Terms>& shared, const Shared<uint32_t>& flag,
                                 ToState to_state) {
  const Team team = find_team(a.shape);
  const int64_t slice = group * team.slices + team.slice;
  const bool valid = slice < a.element.nest.slices;
  terms = add_lanes(a.shape, team, shared, terms);
  if (gridDim.y > 1) {
    if (valid && team.lane == 0) publish(partial_address(a, slice, blockIdx.y), terms);
    if (!is_last(a.tickets + group * 4, gridDim.y, flag)) return;
    terms = {};
    for (int64_t part = team.lane; valid && part < gridDim.y; part += a.shape.team) {
      const uint64_t address = partial_address(a, slice, part);
      merge(&terms, {collect(address), collect(address + sizeof(Pair))});
    }
    terms = add_lanes(a.shape, team, shared, terms);
  }
  if (valid && team.lane == 0) decide(a, slice, to_state(terms));
}

// Any layout: slices, weights, masks, and the gradient if kOut is present.
template <class C>
MSELOSS_KERNEL(2)
general_sum(MSELOSS_PARAMETER(SumArguments, a)) {
  MSELOSS_SHARED(Terms, shared, kThreads);
  MSELOSS_SHARED(uint32_t, flag, 1);
  const Nest& nest = a.element.nest;
  const Team team = find_team(a.shape);
  for (int64_t group = blockIdx.x; group < a.shape.groups; group += gridDim.x) {
    Terms terms{};
    const int64_t slice = group * team.slices + team.slice;
    const int64_t first = blockIdx.y * a.shape.per_part;
    const int64_t end = first + a.shape.per_part < nest.terms ? first + a.shape.per_part : nest.terms;
    if (slice < nest.slices) {
      Offsets base{};
      locate(a.element, 0, nest.kept, static_cast<uint64_t>(slice), &base);
      for (int64_t index = first + team.lane; index < end; index += a.shape.team) {
        Offsets offsets = base;
        locate(a.element, nest.kept, nest.rank, static_cast<uint64_t>(index), &offsets);
        const Element<C> e = convert<C>(a.element, load_raw<C>(a.element, offsets));
        accumulate_element(a, e, &terms);
        if (present(a.element, kOut)) store_results(a.element, offsets, e);
      }
    }
    finish_group(a, group, terms, shared, flag, [&](const Terms& sum) {
      return state_of(a, sum, pair_bound(a, sum, sum.squares), pair_bound(a, sum, sum.weights),
                      sizeof(C) == 4);
    });
    __syncthreads();  // before the next group overwrites shared memory
  }
}

// One sum over dense operands as for dense(). For the types that compute in float32 the accumulator is one
// float64, to which fma(d, d, sum) adds the exact square with one rounding.
template <class S, bool kGradient>
MSELOSS_KERNEL(2)
dense_sum(MSELOSS_PARAMETER(SumArguments, a)) {
  using Operands = DenseOperands<S, kGradient ? Op::kLossAndGrad : Op::kLoss>;
  using C = typename S::Compute;
  constexpr bool kPairs = sizeof(C) == 8;
  constexpr int kCount = smaller_unroll(sizeof(typename S::Bits));
  MSELOSS_SHARED(Terms, shared, kThreads);
  MSELOSS_SHARED(uint32_t, flag, 1);
  const Operands operands = Operands::open(a.dense);
  Pair sums[kCount] = {};
  const auto visit = [&](const Element<C>& e, int u) {
    const C d = subtract(e.input, e.target);
    if constexpr (kPairs) {
      double term, residual;
      split_square(d, &term, &residual);
      accumulate(&sums[u], term, residual, false);
    } else {
      sums[u].high = fused(d, d, sums[u].high);
    }
    return kGradient ? S::narrow(gradient(e, false)) : typename S::Bits{};
  };
  // The parts of the only slice are the blocks of gridDim.y.
  for_each_dense<Operands, S, kCount>(
      a.dense, operands, blockIdx.y, gridDim.y,
      [&](const typename Operands::Inputs& in, int u) {
        Lanes<S> results;
        MSELOSS_UNROLL
        for (int i = 0; i < Lanes<S>::kCount; ++i) {
          results.bits[i] = visit(Operands::element(operands, in, i), u);
        }
        if constexpr (kGradient) store_lanes(a.dense.address[kOut] + in.out, results);
      },
      [&](int64_t index) {
        const auto bits = visit(Operands::tail(operands, index), 0);
        if constexpr (kGradient) store_streaming(a.dense.address[kOut] + index * sizeof(bits), bits);
      });
  Terms terms{};
  MSELOSS_UNROLL
  for (int u = 0; u < kCount; ++u) merge(&terms.squares, sums[u]);
  finish_group(a, 0, terms, shared, flag, [&](const Terms& sum) {
    const double depth = static_cast<double>(a.shape.depth);
    const double error = kPairs ? pair_bound(a, sum, sum.squares) : depth * kUnit * sum.squares.high * kSlack;
    return state_of(a, sum, error, 0, !kPairs);
  });
}

}  // namespace mseloss::cuda
