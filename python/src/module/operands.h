// The operands of a call as views, and where it writes its result.
#pragma once

#include <nanobind/nanobind.h>

#include "arrays/array_view.h"
#include "arrays/result_array.h"
#include "arrays/torch_output.h"
#include "module/signals.h"
#include "torch/threads.h"

namespace mseloss::python {

namespace nb = nanobind;

// The operands as views, read in the order in which errors are reported.
struct Operands {
  ArrayView g, x, y;

  Operands(nb::handle input, nb::handle target) {
    x.read(input.ptr(), "input");
    y.read(target.ptr(), "target");
  }
  // PyTorch is the one library with DLPack's exchange interface so far.
  Options options() const {
    Options options = x.kind() == ArrayKind::kExchange ? torch_options() : Options();
    options.interrupt = &kSignals;
    return options;
  }

  Operands(nb::handle grad_output, nb::handle input, nb::handle target) : Operands(input, target) {
    g.read_or_scalar(grad_output.ptr(), "grad_output", x.dtype());
  }
};

// Where an operator writes: the caller's `out`, or if that is None a new array, the same kind of object as
// `like`.
class Output {
 public:
  Output(nb::handle out, std::span<const int64_t> shape, DType dtype, const ArrayView& like) : out_(out) {
    if (out.is_none()) {
      result_.allocate(shape, dtype, &like);
    } else {
      given_.read_writable(out.ptr(), "out");
      may_be_tensor_ = given_.kind() != ArrayKind::kNumpy;
      if (may_be_tensor_) check_torch_output(out.ptr(), "out");
    }
  }
  Tensor view() const { return out_.is_none() ? result_.view() : given_.mutable_view(); }
  nb::object finish(bool scalar = false) {
    if (out_.is_none()) return nb::steal(result_.finish(scalar));
    if (may_be_tensor_) mark_torch_output_written(out_.ptr());
    return nb::borrow(out_);
  }

 private:
  nb::handle out_;
  bool may_be_tensor_ = false;  // of PyTorch
  ArrayView given_;
  ResultArray result_;
};

// A weight, or None.
class Weight {
 public:
  explicit Weight(nb::handle weight) : given_(!weight.is_none()) {
    if (given_) view_.read_weight(weight.ptr(), "weight");
  }
  bool given() const { return given_; }
  ConstTensor view() const { return view_.view(); }
  std::span<const int64_t> shape() const { return view_.shape(); }

 private:
  bool given_;
  ArrayView view_;
};

}  // namespace mseloss::python
