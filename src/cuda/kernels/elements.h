// The definition of one element, and where the elements of a general layout are.
#pragma once

#include <type_traits>

#include "cuda/kernels/numbers.h"

namespace mseloss::cuda {

// The values of one element's inputs.
template <class C>
struct Element {
  C grad_output, input, target, weight, scale;
};

template <class C>
MSELOSS_DEVICE C gradient(const Element<C>& e, bool weighted) {
  const C scaled = multiply(subtract(e.input, e.target), e.scale);
  return multiply(scaled, weighted ? multiply(e.weight, e.grad_output) : e.grad_output);
}

template <class C>
MSELOSS_DEVICE C squared(const Element<C>& e, bool weighted) {
  const C d = subtract(e.input, e.target);
  return weighted ? multiply(multiply(d, d), e.weight) : multiply(d, d);
}

MSELOSS_DEVICE uint64_t divide(uint64_t index, const Divisor& divisor) {
  return divisor.multiplier == 0 ? index : __umul64hi(index, divisor.multiplier) >> divisor.shift;
}

// Distances in bytes from the first element of each view.
struct Offsets {
  int64_t at[kViews];
};

MSELOSS_DEVICE bool present(const ElementArguments& a, int view) { return a.view[view].address != 0; }

MSELOSS_DEVICE void advance(const ElementArguments& a, int dimension, int64_t index, Offsets* offsets) {
  MSELOSS_UNROLL
  for (int o = 0; o < kViews; ++o) {
    if (present(a, o)) offsets->at[o] += index * a.view[o].stride[dimension];
  }
}

// Adds the offset of the element that has this row-major index in dimensions [first, last).
MSELOSS_DEVICE void locate(const ElementArguments& a, int first, int last, uint64_t index, Offsets* offsets) {
  for (int d = last - 1; d > first; --d) {
    const uint64_t rest = divide(index, a.nest.divisor[d]);
    advance(a, d, static_cast<int64_t>(index - rest * static_cast<uint64_t>(a.nest.extent[d])), offsets);
    index = rest;
  }
  if (last > first) advance(a, first, static_cast<int64_t>(index), offsets);
}

// The inputs of one element as loaded, before they are converted.
template <class C>
struct RawElement {
  // No input is wider than the compute type.
  using Bits = std::conditional_t<sizeof(C) == 8, uint64_t, uint32_t>;
  Bits bits[kOut];
  uint64_t scale;
};

template <class C>
MSELOSS_DEVICE RawElement<C> load_raw(const ElementArguments& a, const Offsets& offsets) {
  RawElement<C> raw{};
  MSELOSS_UNROLL
  for (int o = 0; o < kOut; ++o) {
    const View& view = a.view[o];
    if (!present(a, o)) continue;
    raw.bits[o] = static_cast<typename RawElement<C>::Bits>(
        load_bits(view.address + offsets.at[o], view.dtype, view.aligned));
  }
  const View& scale = a.view[kScaleView];
  if (present(a, kScaleView)) raw.scale = load<uint64_t>(scale.address + offsets.at[kScaleView]);
  return raw;
}

template <class C>
MSELOSS_DEVICE Element<C> convert(const ElementArguments& a, const RawElement<C>& raw) {
  Element<C> e{};
  e.grad_output = widen<C>(raw.bits[kGradOutput], a.view[kGradOutput].dtype);
  e.input = widen<C>(raw.bits[kInput], a.view[kInput].dtype);
  e.target = widen<C>(raw.bits[kTarget], a.view[kTarget].dtype);
  e.weight = widen<C>(raw.bits[kWeight], a.view[kWeight].dtype);
  e.scale = static_cast<C>(present(a, kScaleView) ? bits_as<double>(raw.scale) : a.scale);
  return e;
}

// The outputs of one element, each rounded to its own dtype. An element that a mask leaves out is +0.
template <class C>
MSELOSS_DEVICE C gradient_of(const ElementArguments& a, const Element<C>& e) {
  if (a.masked && e.weight == 0) return 0;
  return gradient(e, present(a, kWeight) && !a.masked);
}
template <class C>
MSELOSS_DEVICE C loss_of(const ElementArguments& a, const Element<C>& e) {
  if (a.masked && e.weight == 0) return 0;
  return squared(e, present(a, kWeight) && !a.masked);
}

template <class C>
MSELOSS_DEVICE void store_result(const ElementArguments& a, int operand, int64_t offset, C value) {
  const View& view = a.view[operand];
  store_bits(view.address + offset, round_twice(value, a.dtype, view.dtype), view.dtype, view.aligned);
}

MSELOSS_DEVICE bool is_done(const ElementArguments& a) {
  const View& g = a.view[kGradOutput];
  return a.unless_one && widen<double>(load_bits(g.address, g.dtype, g.aligned), g.dtype) == 1;
}

// Writes the outputs that are present: kOut is the gradient if there is a grad_output, else the loss.
template <class C>
MSELOSS_DEVICE void store_results(const ElementArguments& a, const Offsets& offsets, const Element<C>& e) {
  const C first = present(a, kGradOutput) ? gradient_of(a, e) : loss_of(a, e);
  if (present(a, kOut)) store_result(a, kOut, offsets.at[kOut], first);
  if (present(a, kLossOut)) store_result(a, kLossOut, offsets.at[kLossOut], loss_of(a, e));
}

}  // namespace mseloss::cuda
