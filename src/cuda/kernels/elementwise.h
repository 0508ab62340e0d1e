// The elementwise kernels: gradient, elementwise loss, or both.
#pragma once

#include "cuda/kernels/elements.h"

namespace mseloss::cuda {

// Elements that a thread of the general kernel loads at a time.
template <class C>
inline constexpr int kElements = sizeof(C) == 8 ? 2 : 4;

// One chunk of a dense operand.
template <class S>
struct Lanes {
  static constexpr int kCount = kChunkBytes / sizeof(typename S::Bits);
  typename S::Bits bits[kCount];
};

// Distances in bytes from the operands' first elements to those of one chunk.
struct ChunkOffsets {
  int64_t at[kOperands];
};

template <bool kRows>
MSELOSS_DEVICE ChunkOffsets locate_chunk(const DenseArguments& a, int64_t chunk) {
  ChunkOffsets offsets{};
  uint64_t row = 0;
  int64_t column = chunk;
  if constexpr (kRows) {
    row = divide(static_cast<uint64_t>(chunk), a.row_divisor);
    column -= static_cast<int64_t>(row) * a.row_chunks;
  }
  MSELOSS_UNROLL
  for (int o = 0; o < kOperands; ++o) {
    // Dense kernels ignore the offset of a single element.
    if (!kRows || (a.strided >> o & 1) != 0) offsets.at[o] = column * kChunkBytes;
  }
  if constexpr (kRows) {
    for (int d = a.outer - 1; d >= 0; --d) {
      const uint64_t rest = d == 0 ? 0 : divide(row, a.divisor[d]);
      const auto index = static_cast<int64_t>(row - rest * static_cast<uint64_t>(a.extent[d]));
      MSELOSS_UNROLL
      for (int o = 0; o < kOperands; ++o) offsets.at[o] += index * a.stride[o][d];
      row = rest;
    }
  }
  return offsets;
}

// A dense operand: its elements, or one element for all (of a row).
template <class S>
struct DenseOperand {
  uint64_t address;
  bool strided;
  typename S::Bits single;

  MSELOSS_DEVICE DenseOperand open(const DenseArguments& a, int operand) {
    DenseOperand result{a.address[operand], (a.strided >> operand & 1) != 0, 0};
    if (!result.strided) result.single = load<typename S::Bits>(result.address);
    return result;
  }
  template <bool kRows>
  MSELOSS_DEVICE Lanes<S> chunk(const DenseOperand& operand, int64_t offset) {
    if (operand.strided) return bits_as<Lanes<S>>(load_streaming<uint4>(operand.address + offset));
    const auto single = kRows ? load<typename S::Bits>(operand.address + offset) : operand.single;
    Lanes<S> copies;
    MSELOSS_UNROLL
    for (int i = 0; i < Lanes<S>::kCount; ++i) copies.bits[i] = single;
    return copies;
  }
  MSELOSS_DEVICE typename S::Bits element(const DenseOperand& operand, int64_t index) {
    if (!operand.strided) return operand.single;
    return load_streaming<typename S::Bits>(operand.address + index * sizeof(typename S::Bits));
  }
};

// The operands of a dense kernel. Those that Op does not have are never read.
template <class S, Op kOp, bool kRows = false>
struct DenseOperands {
  static constexpr bool kGradient = kOp != Op::kLoss;
  using C = typename S::Compute;
  using Operand = DenseOperand<S>;
  Operand grad_output, input, target;
  C scale;

  MSELOSS_DEVICE DenseOperands open(const DenseArguments& a) {
    DenseOperands o{};
    if constexpr (kGradient) o.grad_output = Operand::open(a, kGradOutput);
    o.input = Operand::open(a, kInput);
    o.target = Operand::open(a, kTarget);
    o.scale = static_cast<C>(a.scale);
    return o;
  }
  struct Inputs {
    Lanes<S> grad_output, input, target;
    int64_t out, loss;  // offsets of the outputs
  };
  MSELOSS_DEVICE Inputs load_chunk(const DenseArguments& a, const DenseOperands& o, int64_t chunk) {
    Inputs in{};
    const ChunkOffsets offsets = locate_chunk<kRows>(a, chunk);
    if constexpr (kGradient) {
      in.grad_output = Operand::template chunk<kRows>(o.grad_output, offsets.at[kGradOutput]);
    }
    in.input = Operand::template chunk<kRows>(o.input, offsets.at[kInput]);
    in.target = Operand::template chunk<kRows>(o.target, offsets.at[kTarget]);
    in.out = offsets.at[kOut];
    in.loss = offsets.at[kLossOut];
    return in;
  }
  MSELOSS_DEVICE Element<C> element(const DenseOperands& o, const Inputs& in, int lane) {
    return {kGradient ? S::widen(in.grad_output.bits[lane]) : C{}, S::widen(in.input.bits[lane]),
            S::widen(in.target.bits[lane]), C{}, o.scale};
  }
  // An element of the tail, which does not fill a chunk.
  MSELOSS_DEVICE Element<C> tail(const DenseOperands& o, int64_t index) {
    return {kGradient ? S::widen(Operand::element(o.grad_output, index)) : C{},
            S::widen(Operand::element(o.input, index)), S::widen(Operand::element(o.target, index)), C{},
            o.scale};
  }
};

template <class S>
MSELOSS_DEVICE void store_lanes(uint64_t address, const Lanes<S>& lanes) {
  store_streaming(address, bits_as<uint4>(lanes));
}

// Calls chunk_visit(inputs, u) for the chunks of this thread, in batches whose loads are independent,
// and tail_visit(index) for its element of the tail. `blocks` blocks take tiles of kThreads * kUnroll chunks
// in turn.
template <class Operands, class S, int kUnroll, class ChunkVisit, class TailVisit>
MSELOSS_DEVICE void for_each_dense(const DenseArguments& a, const Operands& operands, int64_t block,
                                   int64_t blocks, ChunkVisit chunk_visit, TailVisit tail_visit) {
  constexpr int kCount = Lanes<S>::kCount;
  const int64_t chunks = a.numel / kCount;
  constexpr int64_t kTile = int64_t{kThreads} * kUnroll;
  for (int64_t first = block * kTile; first < chunks; first += blocks * kTile) {
    typename Operands::Inputs in[kUnroll];
    MSELOSS_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t chunk = first + u * kThreads + threadIdx.x;
      if (chunk < chunks) in[u] = Operands::load_chunk(a, operands, chunk);
    }
    MSELOSS_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t chunk = first + u * kThreads + threadIdx.x;
      if (chunk < chunks) chunk_visit(in[u], u);
    }
  }
  const int64_t index = chunks * kCount + threadIdx.x;
  if (block == blocks - 1 && index < a.numel) tail_visit(index);
}

// Assumes: operands of one dtype, each aligned to a chunk where it is strided, without a weight; numel >= 1.
// Rows consist of whole chunks.
template <class S, Op kOp, bool kRows>
MSELOSS_KERNEL(2)
dense(MSELOSS_PARAMETER(DenseArguments, a)) {
  using Operands = DenseOperands<S, kOp, kRows>;
  using C = typename S::Compute;
  const Operands operands = Operands::open(a);
  if constexpr (kOp == Op::kGrad) {
    if (a.unless_one && S::widen(operands.grad_output.single) == 1) return;
  }
  constexpr int kCount = kOp == Op::kLossAndGrad ? smaller_unroll(sizeof(typename S::Bits)) : kUnroll;
  for_each_dense<Operands, S, kCount>(
      a, operands, blockIdx.x, gridDim.x,
      [&](const typename Operands::Inputs& in, int) {
        Lanes<S> first, second;
        MSELOSS_UNROLL
        for (int i = 0; i < Lanes<S>::kCount; ++i) {
          const Element<C> e = Operands::element(operands, in, i);
          first.bits[i] = S::narrow(kOp == Op::kLoss ? squared(e, false) : gradient(e, false));
          if constexpr (kOp == Op::kLossAndGrad) second.bits[i] = S::narrow(squared(e, false));
        }
        store_lanes(a.address[kOut] + in.out, first);
        if constexpr (kOp == Op::kLossAndGrad) store_lanes(a.address[kLossOut] + in.loss, second);
      },
      [&](int64_t index) {
        const Element<C> e = Operands::tail(operands, index);
        const int64_t offset = index * static_cast<int64_t>(sizeof(typename S::Bits));
        store_streaming(a.address[kOut] + offset,
                        S::narrow(kOp == Op::kLoss ? squared(e, false) : gradient(e, false)));
        if constexpr (kOp == Op::kLossAndGrad) {
          store_streaming(a.address[kLossOut] + offset, S::narrow(squared(e, false)));
        }
      });
}

// Any layout, dtypes and weight, one element at a time; adjacent threads take adjacent elements of the
// innermost dimension.
template <class C>
MSELOSS_KERNEL(3)
general(MSELOSS_PARAMETER(ElementArguments, a)) {
  constexpr int kCount = kElements<C>;
  constexpr int64_t kTile = int64_t{kThreads} * kCount;
  const int64_t numel = a.nest.terms;
  if (is_done(a)) return;
  for (int64_t first = blockIdx.x * kTile; first < numel; first += gridDim.x * kTile) {
    Offsets offsets[kCount];
    RawElement<C> raw[kCount];
    MSELOSS_UNROLL
    for (int u = 0; u < kCount; ++u) {
      const int64_t index = first + u * kThreads + threadIdx.x;
      if (index >= numel) continue;
      offsets[u] = {};
      locate(a, 0, a.nest.rank, static_cast<uint64_t>(index), &offsets[u]);
      raw[u] = load_raw<C>(a, offsets[u]);
    }
    MSELOSS_UNROLL
    for (int u = 0; u < kCount; ++u) {
      const int64_t index = first + u * kThreads + threadIdx.x;
      if (index < numel) store_results(a, offsets[u], convert<C>(a, raw[u]));
    }
  }
}

}  // namespace mseloss::cuda
