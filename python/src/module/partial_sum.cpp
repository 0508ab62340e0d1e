// mseloss._core.PartialSum.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "arrays/array_view.h"
#include "arrays/numpy_bridge.h"
#include "arrays/result_array.h"
#include "module/arguments.h"
#include "module/device.h"
#include "module/docstrings.h"
#include "module/gil.h"
#include "module/module.h"
#include "module/operands.h"
#include "numerics/sum_access.h"

namespace mseloss::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

// The function of mseloss/_device_sums.py, for operands in device memory.
nb::object on_device(const char* name) { return nb::module_::import_("mseloss._device_sums").attr(name); }

Reduction parse_sum(nb::handle name) {
  const Reduction reduction = parse_reduction(name);
  if (reduction == Reduction::kNone)
    raise(PyExc_ValueError, "reduction: expected 'mean' or 'sum', got 'none'");
  return reduction;
}

nb::object finish(const PartialSum& sum, nb::handle reduction_name, nb::handle dtype) {
  const Reduction reduction = parse_sum(reduction_name);
  const DType result = parse_dtype(dtype);
  ResultArray out;
  out.allocate({}, result, nullptr);
  if (!sum.finish(reduction, result, out.view().data)) return nb::none();
  return nb::steal(out.finish(true));
}

void add(PartialSum& sum, nb::handle input, nb::handle target, nb::handle weight, bool exact) try {
  const Operands in(input, target);
  const Weight w(weight);
  const auto mode = exact ? PartialSum::Mode::kExact : PartialSum::Mode::kFast;
  check(call_core<nb::gil_scoped_release>(BroadcastShape(in.x, in.y, w).count(), [&] {
    return w.given() ? sum.add(in.x.view(), in.y.view(), w.view(), mode, in.options())
                     : sum.add(in.x.view(), in.y.view(), mode, in.options());
  }));
} catch (const DeviceMemory&) {
  on_device("add")(nb::find(sum), input, target, weight, exact);
}

void add_divisor(PartialSum& sum, nb::handle input, nb::handle target, nb::handle weight, bool exact) try {
  const Operands in(input, target);
  const Weight w(weight);
  const ConstTensor weights = w.given() ? w.view() : ConstTensor{};
  const auto mode = exact ? PartialSum::Mode::kExact : PartialSum::Mode::kFast;
  check(call_core<nb::gil_scoped_release>(w.given() ? BroadcastShape(in.x, in.y, w).count() : 0, [&] {
    return sum.add_divisor(in.x.view(), in.y.view(), w.given() ? &weights : nullptr, mode, in.options());
  }));
} catch (const DeviceMemory&) {
  on_device("add_divisor")(nb::find(sum), input, target, weight, exact);
}

nb::object scale(const PartialSum& sum, nb::handle reduction, nb::handle dtype) {
  double result;
  return sum.scale(parse_sum(reduction), parse_dtype(dtype), &result) ? nb::cast(result) : nb::none();
}

nb::object add_with_grad(PartialSum& sum, nb::handle input, nb::handle target, double scale,
                         nb::handle weight, nb::handle grad_output, nb::handle given) try {
  const Operands in(grad_output, input, target);
  const Weight w(weight);
  const ConstTensor weights = w.given() ? w.view() : ConstTensor{};
  const BroadcastShape shape(in.x, in.y, w);
  Output grad_input(given, shape.extents(), in.x.dtype(), in.x);
  check(call_core<nb::gil_scoped_release>(shape.count(), [&] {
    return sum.add_with_grad(in.x.view(), in.y.view(), w.given() ? &weights : nullptr, scale, in.g.view(),
                             grad_input.view(), in.options());
  }));
  return grad_input.finish();
} catch (const DeviceMemory&) {
  return on_device("add_with_grad")(nb::find(sum), input, target, scale, weight, grad_output, given);
}

void merge(PartialSum& sum, nb::handle other) {
  if (!nb::isinstance<PartialSum>(other) || !nb::inst_ready(other)) {
    raise(PyExc_TypeError, "other: expected a PartialSum, got %R", other.ptr());
  }
  sum.merge(*nb::inst_ptr<PartialSum>(other));
}

nb::object digits(const PartialSum& sum, nb::handle dtype) {
  const DType inputs = parse_dtype(dtype);
  const auto count = static_cast<size_t>(PartialSum::digit_count(inputs));
  int32_t* data;
  nb::object words = nb::steal(new_numpy_int32(count, &data));
  check(sum.encode(inputs, {data, count}));
  return words;
}

// The words of a one-dimensional array of int32, or of int64, as which NumPy sums int32.
std::vector<int32_t> read_words(nb::handle given) {
  nb::ndarray<nb::ro, nb::ndim<1>, nb::device::cpu> array;
  const bool found = nb::try_cast(given, array);
  const bool wide = found && array.dtype() == nb::dtype<int64_t>();
  if (!found || !(wide || array.dtype() == nb::dtype<int32_t>())) {
    raise(PyExc_TypeError, "digits: expected a one-dimensional array of int32, got %R", given.ptr());
  }
  std::vector<int32_t> words(array.shape(0));
  const auto stride = static_cast<ptrdiff_t>(array.stride(0));
  for (size_t i = 0; i < words.size(); ++i) {
    const ptrdiff_t at = static_cast<ptrdiff_t>(i) * stride;
    const int64_t word =
        wide ? static_cast<const int64_t*>(array.data())[at] : static_cast<const int32_t*>(array.data())[at];
    // Too large a word becomes one that decode() rejects.
    words[i] = static_cast<int32_t>(std::clamp<int64_t>(word, -1, std::numeric_limits<int32_t>::max()));
  }
  return words;
}

PartialSum from_digits(nb::handle given) {
  PartialSum sum;
  const std::span<const int32_t> words = numpy_int32(given.ptr());
  check(words.data() != nullptr ? sum.decode(words) : sum.decode(read_words(given)));
  return sum;
}

// The state for pickling. The tag reads differently on a machine of another byte order; its last digit is the
// version of the layout.
struct State {
  uint64_t tag;
  PartialSum sum;
};
static_assert(std::is_trivially_copyable_v<State> && sizeof(State) == sizeof(uint64_t) + sizeof(PartialSum));
constexpr uint64_t kStateTag = 0x4d53'4553'554d'0002;  // "MSESUM", 2

nb::bytes get_state(const PartialSum& sum) {
  const State state{kStateTag, sum};
  return nb::bytes(reinterpret_cast<const char*>(&state), sizeof(state));
}

void set_state(PartialSum& sum, nb::handle given) {
  if (!PyBytes_Check(given.ptr())) {
    raise(PyExc_ValueError, "state: expected bytes, got %s", Py_TYPE(given.ptr())->tp_name);
  }
  State state;
  const auto size = static_cast<size_t>(PyBytes_GET_SIZE(given.ptr()));
  if (size != sizeof(state)) {
    raise(PyExc_ValueError, "state: expected %zu bytes, got %zu", sizeof(state), size);
  }
  std::memcpy(static_cast<void*>(&state), PyBytes_AS_STRING(given.ptr()), size);
  if (state.tag != kStateTag) {
    raise(PyExc_ValueError, "state: expected a PartialSum of this version and byte order, got other bytes");
  }
  if (!SumAccess::is_valid(state.sum)) {
    raise(PyExc_ValueError, "state: expected the state of a sum of squares, got inconsistent values");
  }
  new (&sum) PartialSum(state.sum);
}

}  // namespace

void add_partial_sum(nb::module_& m) {
  nb::class_<PartialSum>(m, "PartialSum", kPartialSumDoc)
      .def(nb::init<>())
      .def("add", &add, "input"_a.none(), "target"_a.none(), nb::kw_only(), "weight"_a = nb::none(),
           "exact"_a = false, kAddDoc)
      .def("add_divisor", &add_divisor, "input"_a.none(), "target"_a.none(), nb::kw_only(),
           "weight"_a = nb::none(), "exact"_a = false, kAddDivisorDoc)
      .def("scale", &scale, "reduction"_a.none(), "dtype"_a.none(), kScaleDoc)
      .def("add_with_grad", &add_with_grad, "input"_a.none(), "target"_a.none(), "scale"_a, nb::kw_only(),
           "weight"_a = nb::none(), "grad_output"_a.none() = 1.0, "grad_input"_a = nb::none(),
           kAddWithGradDoc)
      .def("merge", &merge, "other"_a.none(), kMergeDoc)
      .def("finish", &finish, "reduction"_a.none(), "dtype"_a.none(), kFinishDoc)
      .def("digits", &digits, "dtype"_a.none() = "float64", kDigitsDoc)
      .def_static("from_digits", &from_digits, "digits"_a.none(), kFromDigitsDoc)
      .def_prop_ro("count", &PartialSum::count,
                   "The number of elements that were added, with a mask those it selects.")
      .def_prop_ro("exact", &PartialSum::exact, "Whether all sums so far are exact.")
      .def("__getstate__", &get_state)
      .def("__setstate__", &set_state, "state"_a.none());
}

}  // namespace mseloss::python
