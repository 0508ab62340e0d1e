// mseloss._core.SliceSums.
#include "sums/slice_sums.h"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <optional>

#include "arrays/array_view.h"
#include "arrays/result_array.h"
#include "module/arguments.h"
#include "module/docstrings.h"
#include "module/module.h"

namespace mseloss::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

void create(SliceSums* sums, nb::handle input, nb::handle target, nb::tuple axis, nb::handle weight) {
  ArrayView x, y, w;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  if (!weight.is_none()) w.read_weight(weight.ptr(), "weight");
  const BroadcastShape broadcast(x, y, w);
  const std::span<const int64_t> shape = broadcast.extents();
  const size_t rank = std::max({x.shape().size(), y.shape().size(), w.shape().size()});
  if (shape.size() != rank) {
    raise(PyExc_ValueError, "target: expected shapes of at most %d dimensions that broadcast together",
          kMaxRank);
  }
  unsigned reduced = 0;
  for (const nb::handle given : axis) {
    const auto d = nb::cast<int64_t>(given);
    if (d < 0 || d >= static_cast<int64_t>(rank))
      raise(PyExc_ValueError, "axis: expected dimensions from 0 to %zu, got %R", rank, axis.ptr());
    reduced |= 1u << d;
  }
  const ConstTensor weights = w.view();
  const nb::gil_scoped_release released;
  new (sums) SliceSums(x.view(), y.view(), weight.is_none() ? nullptr : &weights, shape, reduced);
}

void merge(SliceSums& sums, const SliceSums& other) {
  bool merged;
  {
    const nb::gil_scoped_release released;
    merged = sums.merge(other);
  }
  if (!merged) raise(PyExc_ValueError, "other: expected sums of slices of the same shape and kind of weight");
}

nb::object finish(const SliceSums& sums, nb::handle reduction_name, nb::handle dtype) {
  const Reduction reduction = parse_reduction(reduction_name);
  if (reduction == Reduction::kNone)
    raise(PyExc_ValueError, "reduction: expected 'mean' or 'sum', got 'none'");
  const DType result = parse_dtype(dtype);
  ResultArray out;
  out.allocate(sums.kept_shape(), result, nullptr);
  {
    const nb::gil_scoped_release released;
    sums.finish(reduction, result, out.view().data);
  }
  return nb::steal(out.finish());
}

nb::bytes get_state(const SliceSums& sums) {
  const std::string state = sums.state();
  return nb::bytes(state.data(), state.size());
}

void set_state(SliceSums* sums, nb::bytes state) {
  SliceSums restored;
  if (!restored.set_state({state.c_str(), state.size()}))
    raise(PyExc_ValueError, "state: expected SliceSums of this version and byte order, got other bytes");
  new (sums) SliceSums(std::move(restored));
}

}  // namespace

void add_slice_sums(nb::module_& m) {
  nb::class_<SliceSums>(m, "SliceSums", kSliceSumsDoc)
      .def("__init__", &create, "input"_a.none(), "target"_a.none(), "axis"_a, "weight"_a = nb::none())
      .def("copy", [](const SliceSums& sums) { return SliceSums(sums); })
      .def("merge", &merge, "other"_a)
      .def("finish", &finish, "reduction"_a.none(), "dtype"_a.none())
      .def("__getstate__", &get_state)
      .def("__setstate__", [](SliceSums& sums, nb::bytes state) { set_state(&sums, state); });
}

}  // namespace mseloss::python
