// The operators of mseloss._core: arguments to views, then the core's call.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

#include "arrays/array_view.h"
#include "arrays/result_array.h"
#include "module/arguments.h"
#include "module/docstrings.h"
#include "module/gil.h"
#include "module/grad_part.h"
#include "module/module.h"

namespace mseloss::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class Call>
void run(int64_t count, Call call) {
  check(call_core<nb::gil_scoped_release>(count, call));
}

nb::object grad(nb::handle grad_output, nb::handle input, nb::handle target, nb::handle reduction,
                nb::handle out) {
  ArrayView g, x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  g.read_or_scalar(grad_output.ptr(), "grad_output", x.dtype());
  const Reduction how = parse_reduction(reduction);
  const BroadcastShape shape(x, y, g);
  if (!out.is_none()) {
    given.read_writable(out.ptr(), "out");
    run(shape.count(),
        [&] { return mseloss::grad(g.view(), x.view(), y.view(), how, given.mutable_view()); });
    return nb::borrow(out);
  }
  ResultArray fresh;
  fresh.allocate(shape.extents(), x.dtype(), &x);
  run(shape.count(), [&] { return mseloss::grad(g.view(), x.view(), y.view(), how, fresh.view()); });
  return nb::steal(fresh.finish());
}

nb::object loss(nb::handle input, nb::handle target, nb::handle reduction, nb::handle out, nb::handle dtype) {
  ArrayView x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  const Reduction how = parse_reduction(reduction);
  const BroadcastShape shape(x, y);
  if (!out.is_none()) {
    given.read_writable(out.ptr(), "out");
    if (!dtype.is_none() && parse_dtype(dtype) != given.dtype()) {
      raise(PyExc_TypeError, "dtype: expected the dtype of out, %s, got %s", name_of(given.dtype()),
            name_of(parse_dtype(dtype)));
    }
    run(shape.count(), [&] { return mseloss::loss(x.view(), y.view(), how, given.mutable_view()); });
    return nb::borrow(out);
  }
  const DType result = dtype.is_none() ? promote(x.dtype(), y.dtype()) : parse_dtype(dtype);
  const bool sums = how != Reduction::kNone;
  ResultArray fresh;
  fresh.allocate(sums ? std::span<const int64_t>{} : shape.extents(), result, &x);
  run(shape.count(), [&] { return mseloss::loss(x.view(), y.view(), how, fresh.view()); });
  return nb::steal(fresh.finish(sums));
}

nb::object loss_and_grad(nb::handle input, nb::handle target, nb::handle reduction, nb::handle grad_output,
                         nb::handle out) {
  ArrayView g, x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  g.read_or_scalar(grad_output.ptr(), "grad_output", x.dtype());
  const Reduction how = parse_reduction(reduction);
  const bool sums = how != Reduction::kNone;
  const BroadcastShape shape = sums ? BroadcastShape(x, y) : BroadcastShape(x, y, g);
  ResultArray value, fresh;
  value.allocate(sums ? std::span<const int64_t>{} : shape.extents(), promote(x.dtype(), y.dtype()), &x);
  nb::object gradient;
  const auto call = [&](const Tensor& grad_input) {
    run(shape.count(),
        [&] { return mseloss::loss_and_grad(x.view(), y.view(), how, g.view(), value.view(), grad_input); });
  };
  if (!out.is_none()) {
    given.read_writable(out.ptr(), "out");
    call(given.mutable_view());
    gradient = nb::borrow(out);
  } else {
    fresh.allocate(shape.extents(), x.dtype(), &x);
    call(fresh.view());
    gradient = nb::steal(fresh.finish());
  }
  return nb::make_tuple(nb::steal(value.finish(sums)), gradient);
}

nb::object empty(nb::handle shape, nb::handle dtype, nb::handle like) {
  int64_t extents[kMaxRank];
  int rank = 0;
  const auto add = [&](nb::handle extent) {
    if (rank == kMaxRank)
      raise(PyExc_ValueError, "shape: expected at most %d dimensions, got more", kMaxRank);
    extents[rank] = PyLong_AsLongLong(extent.ptr());
    if (extents[rank] == -1 && PyErr_Occurred()) raise_current();
    if (extents[rank] < 0)
      raise(PyExc_ValueError, "shape: expected extents of at least 0, got %R", shape.ptr());
    ++rank;
  };
  if (PyLong_Check(shape.ptr())) {
    add(shape);
  } else {
    for (nb::handle extent : shape) add(extent);
  }
  ArrayView model;
  if (!like.is_none()) model.read(like.ptr(), "like");
  ResultArray fresh;
  fresh.allocate({extents, static_cast<size_t>(rank)}, parse_dtype(dtype), like.is_none() ? nullptr : &model);
  return nb::steal(fresh.finish());
}

nb::object bind_grad_part(nb::handle grad_output, nb::handle input, nb::handle target, int64_t count,
                          nb::handle out) {
  ArrayView g, x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  g.read_or_scalar(grad_output.ptr(), "grad_output", x.dtype());
  given.read_writable(out.ptr(), "out");
  if (count < 0)
    raise(PyExc_ValueError, "count: expected at least 0, got %lld", static_cast<long long>(count));
  run(BroadcastShape(x, y, g).count(),
      [&] { return grad_part(g.view(), x.view(), y.view(), count, given.mutable_view()); });
  return nb::borrow(out);
}

nb::object as_numpy(nb::handle array, const char* name) {
  ArrayView view;
  view.read(array.ptr(), name);
  return nb::steal(view.to_numpy(name));
}

std::string explain(nb::handle grad_output, nb::handle input, nb::handle target, nb::handle reduction,
                    nb::handle out) {
  ArrayView g, x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  g.read_or_scalar(grad_output.ptr(), "grad_output", x.dtype());
  const Reduction how = parse_reduction(reduction);
  ResultArray fresh;  // never touched
  if (out.is_none()) {
    fresh.allocate(BroadcastShape(x, y, g).extents(), x.dtype(), &x);
  } else {
    given.read_writable(out.ptr(), "out");
  }
  return mseloss::explain(g.view(), x.view(), y.view(), how,
                          out.is_none() ? fresh.view() : given.mutable_view());
}

}  // namespace

void add_operators(nb::module_& m) {
  m.def("grad", &grad, "grad_output"_a.none(), "input"_a.none(), "target"_a.none(),
        "reduction"_a.none() = "mean", nb::kw_only(), "out"_a = nb::none(), nb::sig(kGradSignature),
        kGradDoc);
  m.def("loss", &loss, "input"_a.none(), "target"_a.none(), "reduction"_a.none() = "mean", nb::kw_only(),
        "out"_a = nb::none(), "dtype"_a = nb::none(), nb::sig(kLossSignature), kLossDoc);
  m.def("loss_and_grad", &loss_and_grad, "input"_a.none(), "target"_a.none(), "reduction"_a.none() = "mean",
        nb::kw_only(), "grad_output"_a.none() = 1.0, "out"_a = nb::none(), nb::sig(kLossAndGradSignature),
        kLossAndGradDoc);
  m.def("grad_part", &bind_grad_part, "grad_output"_a.none(), "input"_a.none(), "target"_a.none(), "count"_a,
        "out"_a, kGradPartDoc);
  m.def("explain", &explain, "grad_output"_a.none(), "input"_a.none(), "target"_a.none(),
        "reduction"_a.none() = "mean", nb::kw_only(), "out"_a = nb::none(), kExplainDoc);
  m.def("empty", &empty, "shape"_a, "dtype"_a, "like"_a = nb::none(), kEmptyDoc);
  m.def("asnumpy", &as_numpy, "array"_a.none(), "name"_a = "array", kAsNumpyDoc);
}

}  // namespace mseloss::python
