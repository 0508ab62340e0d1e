// The operators of mseloss._core: convert the arguments to views and call the library.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <string>

#include "arrays/array_view.h"
#include "module/arguments.h"
#include "module/device.h"
#include "module/docstrings.h"
#include "module/gil.h"
#include "module/grad_part.h"
#include "module/into_out.h"
#include "module/module.h"
#include "module/operands.h"
#include "plan/plan.h"

namespace mseloss::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class Call>
void run(const BroadcastShape& shape, Call call) {
  check(call_core<nb::gil_scoped_release>(shape.count(), call));
}

// The function of mseloss/_device.py, for operands in device memory.
nb::object on_device(const char* name) { return nb::module_::import_("mseloss._device").attr(name); }

nb::object grad(nb::handle grad_output, nb::handle input, nb::handle target, nb::handle reduction_name,
                nb::handle out) try {
  Operands in(grad_output, input, target);
  const Reduction reduction = parse_reduction(reduction_name);
  const BroadcastShape shape(in.x, in.y, in.g);
  Output grad_input(out, shape.extents(), in.x.dtype(), in.x);
  run(shape, [&] {
    return grad_into_out(in.g.view(), in.x.view(), in.y.view(), reduction, grad_input.view(), in.options());
  });
  return grad_input.finish();
} catch (const DeviceMemory&) {
  return on_device("grad")(grad_output, input, target, reduction_name, out);
}

void check_elementwise(nb::handle axis, bool keepdims) {
  if (!axis.is_none()) {
    raise(PyExc_ValueError, "axis: expected None for reduction 'none', got %R", axis.ptr());
  }
  if (keepdims) raise(PyExc_ValueError, "keepdims: expected False for reduction 'none', got True");
}

// `given` is the caller's `out`.
void check_result_shape(nb::handle given, const Tensor& out, const Axes& axes) {
  if (given.is_none() || std::ranges::equal(out.shape, axes.shape())) return;
  // The core itself reports an `out` of the wrong shape for a loss of one element.
  if (axes.shape().empty()) return;
  nb::list expected;
  for (const int64_t extent : axes.shape()) expected.append(extent);
  nb::list actual;
  for (const int64_t extent : out.shape) actual.append(extent);
  raise(PyExc_ValueError, "out: expected shape %R, got %R", nb::tuple(expected).ptr(),
        nb::tuple(actual).ptr());
}

nb::object loss(nb::handle input, nb::handle target, nb::handle reduction_name, nb::handle weight,
                nb::handle axis, bool keepdims, nb::handle out, nb::handle dtype) try {
  Operands in(input, target);
  const Weight w(weight);
  const Reduction reduction = parse_reduction(reduction_name);
  const BroadcastShape shape(in.x, in.y, w);
  const bool sums = reduction != Reduction::kNone;
  if (!sums) check_elementwise(axis, keepdims);
  const Axes axes(sums ? axis : nb::handle(nb::none()), sums && keepdims, shape.extents());
  Output value(out, sums ? axes.shape() : shape.extents(),
               dtype.is_none() || !out.is_none() ? promote(in.x.dtype(), in.y.dtype()) : parse_dtype(dtype),
               in.x);
  if (!dtype.is_none() && !out.is_none() && parse_dtype(dtype) != value.view().dtype) {
    raise(PyExc_TypeError, "dtype: expected the dtype of out, %s, got %s", name_of(value.view().dtype),
          name_of(parse_dtype(dtype)));
  }
  int64_t extents[kMaxRank], strides[kMaxRank];
  Tensor result = value.view();
  if (sums) {
    check_result_shape(out, result, axes);
    result = axes.expand(result, extents, strides);
  }
  run(shape, [&] {
    return w.given() ? mseloss::loss(in.x.view(), in.y.view(), w.view(), reduction, result, in.options())
                     : mseloss::loss(in.x.view(), in.y.view(), reduction, result, in.options());
  });
  return value.finish(sums);
} catch (const DeviceMemory&) {
  return on_device("loss")(input, target, reduction_name, weight, axis, keepdims, out, dtype);
}

nb::object loss_and_grad(nb::handle input, nb::handle target, nb::handle reduction_name, nb::handle weight,
                         nb::handle axis, nb::handle grad_output, nb::handle out, nb::handle dtype) try {
  Operands in(grad_output, input, target);
  const Weight w(weight);
  const Reduction reduction = parse_reduction(reduction_name);
  const bool sums = reduction != Reduction::kNone;
  if (!sums) check_elementwise(axis, false);
  const BroadcastShape shape = sums ? BroadcastShape(in.x, in.y, w) : BroadcastShape(in.x, in.y, w, in.g);
  const Axes axes(sums ? axis : nb::handle(nb::none()), false, shape.extents());
  Output value(nb::none(), sums ? axes.shape() : shape.extents(),
               dtype.is_none() ? promote(in.x.dtype(), in.y.dtype()) : parse_dtype(dtype), in.x);
  Output grad_input(out, shape.extents(), in.x.dtype(), in.x);
  int64_t extents[2][kMaxRank], strides[2][kMaxRank];
  Tensor result = value.view();
  ConstTensor g = in.g.view();
  if (sums) {
    result = axes.expand(result, extents[0], strides[0]);
    g = axes.expand(g, extents[1], strides[1]);
  }
  run(shape, [&] {
    const ConstTensor weights = w.given() ? w.view() : ConstTensor{};
    return loss_and_grad_into_out(in.x.view(), in.y.view(), w.given() ? &weights : nullptr, reduction, g,
                                  result, grad_input.view(), in.options());
  });
  nb::object gradient = grad_input.finish();
  return nb::make_tuple(value.finish(sums), gradient);
} catch (const DeviceMemory&) {
  return on_device("loss_and_grad")(input, target, reduction_name, weight, axis, grad_output, out, dtype);
}

// `shape` has raised an error when it was read as integers.
[[noreturn]] void raise_shape(nb::handle shape) {
  take_refusal();
  raise(PyExc_TypeError, "shape: expected an integer or a sequence of integers, got %R", shape.ptr());
}

nb::object empty(nb::handle shape, nb::handle dtype, nb::handle like) {
  int64_t extents[kMaxRank];
  int rank = 0;
  const auto add = [&](nb::handle extent) {
    if (rank == kMaxRank)
      raise(PyExc_ValueError, "shape: expected at most %d dimensions, got more", kMaxRank);
    const Ref integer(PyNumber_Index(extent.ptr()));
    if (!integer) raise_shape(shape);
    extents[rank] = PyLong_AsLongLong(integer.get());
    const bool large = extents[rank] == -1 && PyErr_Occurred();
    if (large) PyErr_Clear();
    if (extents[rank] < 0) {
      raise(PyExc_ValueError, "shape: expected extents %s, got %R", large ? "of 64 bits" : "of at least 0",
            shape.ptr());
    }
    ++rank;
  };
  // Arrays have __index__ too, but also a length.
  if (PyIndex_Check(shape.ptr()) && PyObject_Size(shape.ptr()) < 0) {
    PyErr_Clear();
    add(shape);
  } else {
    const Ref items(PySequence_Tuple(shape.ptr()));
    if (!items) raise_shape(shape);
    for (nb::handle extent : nb::borrow<nb::tuple>(items.get())) add(extent);
  }
  ArrayView model;
  if (!like.is_none()) model.read(like.ptr(), "like");
  ResultArray result;
  result.allocate({extents, static_cast<size_t>(rank)}, parse_dtype(dtype),
                  like.is_none() ? nullptr : &model);
  return nb::steal(result.finish());
}

nb::object part_grad(nb::handle grad_output, nb::handle input, nb::handle target, int64_t count,
                     nb::handle out, nb::handle weight) try {
  Operands in(grad_output, input, target);
  const Weight w(weight);
  if (count < 0)
    raise(PyExc_ValueError, "count: expected at least 0, got %lld", static_cast<long long>(count));
  if (w.given() && count != 0) raise(PyExc_ValueError, "count: expected 0 with a weight");
  const BroadcastShape shape(in.x, in.y, in.g, w);
  Output grad_input(out, shape.extents(), in.x.dtype(), in.x);
  run(shape, [&] {
    if (w.given()) {
      return weighted_grad_part(in.g.view(), in.x.view(), in.y.view(), w.view(), 2, grad_input.view(),
                                in.options());
    }
    return grad_part(in.g.view(), in.x.view(), in.y.view(), count, grad_input.view(), in.options());
  });
  return grad_input.finish();
} catch (const DeviceMemory&) {
  return on_device("grad_part")(grad_output, input, target, count, out, weight);
}

nb::object as_numpy(nb::handle array, const char* name, bool weight) {
  ArrayView view;
  weight ? view.read_weight(array.ptr(), name) : view.read(array.ptr(), name);
  return nb::steal(view.to_numpy());
}

std::string explain(nb::handle grad_output, nb::handle input, nb::handle target, nb::handle reduction_name,
                    nb::handle out) {
  Operands in(grad_output, input, target);
  const Reduction reduction = parse_reduction(reduction_name);
  const Output grad_input(out, BroadcastShape(in.x, in.y, in.g).extents(), in.x.dtype(), in.x);
  return mseloss::explain(in.g.view(), in.x.view(), in.y.view(), reduction, grad_input.view(), in.options());
}

}  // namespace

void add_operators(nb::module_& m) {
  m.def("grad", &grad, "grad_output"_a.none(), "input"_a.none(), "target"_a.none(),
        "reduction"_a.none() = "mean", nb::kw_only(), "out"_a = nb::none(), nb::sig(kGradSignature),
        kGradDoc);
  m.def("loss", &loss, "input"_a.none(), "target"_a.none(), "reduction"_a.none() = "mean", nb::kw_only(),
        "weight"_a = nb::none(), "axis"_a = nb::none(), "keepdims"_a = false, "out"_a = nb::none(),
        "dtype"_a = nb::none(), nb::sig(kLossSignature), kLossDoc);
  m.def("loss_and_grad", &loss_and_grad, "input"_a.none(), "target"_a.none(), "reduction"_a.none() = "mean",
        nb::kw_only(), "weight"_a = nb::none(), "axis"_a = nb::none(), "grad_output"_a.none() = 1.0,
        "out"_a = nb::none(), "dtype"_a = nb::none(), nb::sig(kLossAndGradSignature), kLossAndGradDoc);
  m.def("grad_part", &part_grad, "grad_output"_a.none(), "input"_a.none(), "target"_a.none(), "count"_a,
        "out"_a, "weight"_a = nb::none(), kGradPartDoc);
  m.def("explain", &explain, "grad_output"_a.none(), "input"_a.none(), "target"_a.none(),
        "reduction"_a.none() = "mean", nb::kw_only(), "out"_a = nb::none(), kExplainDoc);
  m.def("empty", &empty, "shape"_a.none(), "dtype"_a.none(), "like"_a = nb::none(), kEmptyDoc);
  m.def("asnumpy", &as_numpy, "array"_a.none(), "name"_a = "array", "weight"_a = false, kAsNumpyDoc);
}

}  // namespace mseloss::python
