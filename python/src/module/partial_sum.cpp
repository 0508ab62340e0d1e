// mseloss._core.PartialSum.
#include <nanobind/nanobind.h>

#include <cstring>

#include "arrays/array_view.h"
#include "arrays/result_array.h"
#include "module/arguments.h"
#include "module/docstrings.h"
#include "module/gil.h"
#include "module/module.h"

namespace mseloss::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

void add(PartialSum& sum, nb::handle input, nb::handle target, bool exact) {
  ArrayView x, y;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  const auto mode = exact ? PartialSum::Mode::kExact : PartialSum::Mode::kFast;
  check(call_core<nb::gil_scoped_release>(BroadcastShape(x, y).count(),
                                          [&] { return sum.add(x.view(), y.view(), mode); }));
}

nb::object finish(const PartialSum& sum, nb::handle reduction_name, nb::handle dtype) {
  const Reduction reduction = parse_reduction(reduction_name);
  if (reduction == Reduction::kNone)
    raise(PyExc_ValueError, "reduction: expected 'mean' or 'sum', got 'none'");
  const DType result = parse_dtype(dtype);
  ResultArray out;
  out.allocate({}, result, nullptr);
  if (!sum.finish(reduction, result, out.view().data)) return nb::none();
  return nb::steal(out.finish(true));
}

nb::bytes get_state(const PartialSum& sum) {
  return nb::bytes(reinterpret_cast<const char*>(&sum), sizeof(sum));
}

void set_state(PartialSum& sum, nb::bytes state) {
  static_assert(std::is_trivially_copyable_v<PartialSum>);
  if (state.size() != sizeof(sum)) raise(PyExc_ValueError, "state: expected %zu bytes", sizeof(sum));
  new (&sum) PartialSum;
  std::memcpy(static_cast<void*>(&sum), state.data(), sizeof(sum));
}

}  // namespace

void add_partial_sum(nb::module_& m) {
  nb::class_<PartialSum>(m, "PartialSum", kPartialSumDoc)
      .def(nb::init<>())
      .def("add", &add, "input"_a.none(), "target"_a.none(), nb::kw_only(), "exact"_a = false)
      .def("merge", &PartialSum::merge, "other"_a)
      .def("finish", &finish, "reduction"_a.none(), "dtype"_a)
      .def_prop_ro("count", &PartialSum::count)
      .def_prop_ro("exact", &PartialSum::exact)
      .def("__getstate__", &get_state)
      .def("__setstate__", &set_state);
}

}  // namespace mseloss::python
