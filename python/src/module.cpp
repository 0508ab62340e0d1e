// The module mseloss._core: arguments to views, the core's call, its Status to an exception.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstring>

#include "array.h"
#include "docstrings.h"
#include "native.h"
#include "numerics/scale.h"
#include "numpy_bridge.h"
#include "plan/plan.h"
#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mseloss::python {
namespace {

[[noreturn]] void raise_status(const Status& status) {
  PyObject* exception = PyExc_ValueError;
  if (status.code() == Code::kDType) exception = PyExc_TypeError;
  if (status.code() == Code::kOutOfMemory) exception = PyExc_MemoryError;
  PyErr_SetString(exception, status.message());
  raise_current();
}

void check(const Status& status) {
  if (!status.ok()) [[unlikely]]
    raise_status(status);
}

Reduction parse_reduction(nb::handle text) {
  if (PyUnicode_Check(text.ptr())) {
    if (PyUnicode_CompareWithASCIIString(text.ptr(), "mean") == 0) return Reduction::kMean;
    if (PyUnicode_CompareWithASCIIString(text.ptr(), "sum") == 0) return Reduction::kSum;
    if (PyUnicode_CompareWithASCIIString(text.ptr(), "none") == 0) return Reduction::kNone;
  }
  raise(PyExc_ValueError, "reduction: expected 'none', 'mean' or 'sum', got %R", text.ptr());
}

// What a fresh result needs to know before the core has checked the call. Where the shapes do not broadcast
// it is left 0-dimensional, and the core refuses the call in its own words.
struct Extents {
  int rank = 0;
  int64_t extent[kMaxRank];
  int64_t count = 1;  // saturates
  bool valid = true;

  template <class... Arrays>
  explicit Extents(const Arrays&... arrays) {
    (add(arrays.shape()), ...);
    if (!valid) rank = 0;
    bool fits = true, empty = false;
    for (int i = 0; i < rank; ++i) {
      empty = empty || extent[i] == 0;
      fits = fits && !__builtin_mul_overflow(count, extent[i], &count);
    }
    if (!fits) count = INT64_MAX;
    if (empty) count = 0;
  }
  std::span<const int64_t> shape() const { return {extent, static_cast<size_t>(rank)}; }

 private:
  void add(std::span<const int64_t> shape) {
    const int added = static_cast<int>(shape.size());
    if (!valid || added > kMaxRank) {
      valid = false;
      return;
    }
    if (added > rank) {  // existing extents move to the right
      for (int i = rank; i-- > 0;) extent[i + added - rank] = extent[i];
      for (int i = 0; i < added - rank; ++i) extent[i] = 1;
      rank = added;
    }
    for (int i = 0; i < added; ++i) {
      int64_t& own = extent[rank - added + i];
      if (own == 1) {
        own = shape[i];
      } else if (shape[i] != own && shape[i] != 1) {
        valid = false;
      }
    }
  }
};

template <class Call>
void run(int64_t count, Call call) {
  if (count < kReleaseGil) return check(call());
  Status status;
  {
    const nb::gil_scoped_release released;
    status = call();
  }
  check(status);
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  return a == DType::kFloat64 || b == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

nb::object own(PyObject* object) { return nb::steal(object); }

nb::object grad(nb::handle grad_output, nb::handle input, nb::handle target, nb::handle reduction,
                nb::handle out) {
  Array g, x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  g.read_or_scalar(grad_output.ptr(), "grad_output", x.dtype());
  const Reduction how = parse_reduction(reduction);
  const Extents extents(x, y, g);
  if (!out.is_none()) {
    given.read_writable(out.ptr(), "out");
    run(extents.count,
        [&] { return mseloss::grad(g.view(), x.view(), y.view(), how, given.mutable_view()); });
    return nb::borrow(out);
  }
  Fresh fresh;
  fresh.allocate(extents.shape(), x.dtype(), &x);
  run(extents.count, [&] { return mseloss::grad(g.view(), x.view(), y.view(), how, fresh.view()); });
  return own(fresh.finish());
}

nb::object loss(nb::handle input, nb::handle target, nb::handle reduction, nb::handle out, nb::handle dtype) {
  Array x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  const Reduction how = parse_reduction(reduction);
  const Extents extents(x, y);
  if (!out.is_none()) {
    given.read_writable(out.ptr(), "out");
    if (!dtype.is_none() && parse_dtype(dtype.ptr()) != given.dtype()) {
      raise(PyExc_TypeError, "dtype: expected the dtype of out, %s, got %s", name_of(given.dtype()),
            name_of(parse_dtype(dtype.ptr())));
    }
    run(extents.count, [&] { return mseloss::loss(x.view(), y.view(), how, given.mutable_view()); });
    return nb::borrow(out);
  }
  const DType result = dtype.is_none() ? promote(x.dtype(), y.dtype()) : parse_dtype(dtype.ptr());
  const bool sums = how != Reduction::kNone;
  Fresh fresh;
  fresh.allocate(sums ? std::span<const int64_t>{} : extents.shape(), result, &x);
  run(extents.count, [&] { return mseloss::loss(x.view(), y.view(), how, fresh.view()); });
  return own(fresh.finish(sums));
}

nb::object loss_and_grad(nb::handle input, nb::handle target, nb::handle reduction, nb::handle grad_output,
                         nb::handle out) {
  Array g, x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  g.read_or_scalar(grad_output.ptr(), "grad_output", x.dtype());
  const Reduction how = parse_reduction(reduction);
  const bool sums = how != Reduction::kNone;
  const Extents extents = sums ? Extents(x, y) : Extents(x, y, g);
  Fresh value, fresh;
  value.allocate(sums ? std::span<const int64_t>{} : extents.shape(), promote(x.dtype(), y.dtype()), &x);
  nb::object gradient;
  const auto call = [&](const Tensor& grad_input) {
    run(extents.count,
        [&] { return mseloss::loss_and_grad(x.view(), y.view(), how, g.view(), value.view(), grad_input); });
  };
  if (!out.is_none()) {
    given.read_writable(out.ptr(), "out");
    call(given.mutable_view());
    gradient = nb::borrow(out);
  } else {
    fresh.allocate(extents.shape(), x.dtype(), &x);
    call(fresh.view());
    gradient = own(fresh.finish());
  }
  return nb::make_tuple(own(value.finish(sums)), gradient);
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
  Array model;
  if (!like.is_none()) model.read(like.ptr(), "like");
  Fresh fresh;
  fresh.allocate({extents, static_cast<size_t>(rank)}, parse_dtype(dtype.ptr()),
                 like.is_none() ? nullptr : &model);
  return own(fresh.finish());
}

// grad() of a part of a tensor of `count` elements: "mean" for the whole, which the part alone cannot know.
nb::object grad_part(nb::handle grad_output, nb::handle input, nb::handle target, int64_t count,
                     nb::handle out) {
  Array g, x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  g.read_or_scalar(grad_output.ptr(), "grad_output", x.dtype());
  given.read_writable(out.ptr(), "out");
  if (count < 0)
    raise(PyExc_ValueError, "count: expected at least 0, got %lld", static_cast<long long>(count));
  Plan plan;
  const Tensor result = given.mutable_view();
  check(make_grad_plan(g.view(), x.view(), y.view(), Reduction::kSum, result, &plan));
  if (count > 0) {
    plan.reduction = Reduction::kMean;
    plan.scale = plan.dtype == DType::kFloat64 ? mean_scale<double>(count) : double{mean_scale<float>(count)};
  }
  const Buffers buffers{g.view().data, x.view().data, y.view().data, result.data, nullptr};
  check(check_buffers(plan, buffers));
  run(plan.numel, [&] { return mseloss::run(plan, buffers, {}); });
  return nb::borrow(out);
}

nb::object asnumpy(nb::handle array, const char* name) {
  Array view;
  view.read(array.ptr(), name);
  return own(view.to_numpy(name));
}

void add_to_sum(PartialSum& sum, nb::handle input, nb::handle target, bool exact) {
  Array x, y;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  const auto mode = exact ? PartialSum::Mode::kExact : PartialSum::Mode::kFast;
  run(Extents(x, y).count, [&] { return sum.add(x.view(), y.view(), mode); });
}

nb::object finish_sum(const PartialSum& sum, nb::handle reduction, nb::handle dtype) {
  const Reduction how = parse_reduction(reduction);
  if (how == Reduction::kNone) raise(PyExc_ValueError, "reduction: expected 'mean' or 'sum', got 'none'");
  const DType result = parse_dtype(dtype.ptr());
  Fresh fresh;
  fresh.allocate({}, result, nullptr);
  if (!sum.finish(how, result, fresh.view().data)) return nb::none();
  return own(fresh.finish(true));
}

std::string explain(nb::handle grad_output, nb::handle input, nb::handle target, nb::handle reduction,
                    nb::handle out) {
  Array g, x, y, given;
  x.read(input.ptr(), "input");
  y.read(target.ptr(), "target");
  g.read_or_scalar(grad_output.ptr(), "grad_output", x.dtype());
  const Reduction how = parse_reduction(reduction);
  Fresh fresh;  // never touched
  if (out.is_none()) {
    fresh.allocate(Extents(x, y, g).shape(), x.dtype(), &x);
  } else {
    given.read_writable(out.ptr(), "out");
  }
  return mseloss::explain(g.view(), x.view(), y.view(), how,
                          out.is_none() ? fresh.view() : given.mutable_view());
}

nb::dict info() {
  nb::dict result;
  result["version"] = version();
  result["device"] = "cpu";
  result["target"] = target();
  result["supported_targets"] = nb::str(supported_targets()).attr("split")();
  result["threads"] = max_threads();
  result["memory_limit"] = pool_limit();
  return result;
}

nb::dict memory_usage() {
  const PoolUsage usage = pool_usage();
  nb::dict result;
  result["live"] = usage.live;
  result["idle"] = usage.idle;
  result["limit"] = usage.limit;
  result["live_blocks"] = usage.live_blocks;
  result["idle_blocks"] = usage.idle_blocks;
  result["mapped"] = usage.mapped;
  result["reused"] = usage.reused;
  return result;
}

void memory_set_limit(nb::handle bytes) {
  const size_t limit = PyLong_AsSize_t(bytes.ptr());
  if (PyErr_Occurred()) {
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
      raise(PyExc_ValueError, "bytes: expected a number of bytes from 0 on, got %R", bytes.ptr());
    }
    raise_current();
  }
  set_pool_limit(limit);
}

}  // namespace

DType parse_dtype(PyObject* object) {
  const nb::handle given(object);
  nb::object text;
  if (PyUnicode_Check(object)) {
    text = nb::borrow(given);
  } else if (object == reinterpret_cast<PyObject*>(&PyFloat_Type)) {
    return DType::kFloat64;
  } else if (PyType_Check(object)) {  // numpy.float32, ml_dtypes.bfloat16
    text = given.attr("__name__");
  } else if (nb::hasattr(given, "dtype")) {  // jax.numpy.float32
    text = given.attr("dtype").attr("name");
  } else {  // numpy.dtype("float32"), torch.float32
    text = nb::str(given);
  }
  const char* name = PyUnicode_AsUTF8(text.ptr());
  if (name == nullptr) raise_current();
  if (std::strncmp(name, "torch.", 6) == 0) name += 6;
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64}) {
    if (std::strcmp(name, name_of(dtype)) == 0) return dtype;
  }
  raise(PyExc_TypeError, "dtype: expected float32, float16, bfloat16 or float64, got %R", object);
}

}  // namespace mseloss::python

NB_MODULE(_core, m) {
  using namespace mseloss::python;
  m.attr("__version__") = mseloss::version();
  static constexpr Native native{mseloss::loss, mseloss::loss_and_grad, acquire, release, dense_strides};
  m.attr("_native") = nb::capsule(&native, kNativeCapsule);
  m.def("grad", &grad, "grad_output"_a.none(), "input"_a.none(), "target"_a.none(),
        "reduction"_a.none() = "mean", nb::kw_only(), "out"_a = nb::none(), nb::sig(kGradSignature),
        kGradDoc);
  m.def("loss", &loss, "input"_a.none(), "target"_a.none(), "reduction"_a.none() = "mean", nb::kw_only(),
        "out"_a = nb::none(), "dtype"_a = nb::none(), nb::sig(kLossSignature), kLossDoc);
  m.def("loss_and_grad", &loss_and_grad, "input"_a.none(), "target"_a.none(), "reduction"_a.none() = "mean",
        nb::kw_only(), "grad_output"_a.none() = 1.0, "out"_a = nb::none(), nb::sig(kLossAndGradSignature),
        kLossAndGradDoc);
  m.def("empty", &empty, "shape"_a, "dtype"_a, "like"_a = nb::none(), kEmptyDoc);
  m.def("explain", &explain, "grad_output"_a.none(), "input"_a.none(), "target"_a.none(),
        "reduction"_a.none() = "mean", nb::kw_only(), "out"_a = nb::none(), kExplainDoc);
  m.def("info", &info, kInfoDoc);
  m.def(
      "set_target",
      [](nb::handle name) {
        const char* text = name.is_none() ? nullptr : PyUnicode_AsUTF8(name.ptr());
        if (text == nullptr && PyErr_Occurred()) raise_current();
        check(mseloss::set_target(text));
      },
      "name"_a.none(), kSetTargetDoc);
  m.def("memory_usage", &memory_usage);
  m.def("memory_limit", &pool_limit);
  m.def("memory_set_limit", &memory_set_limit, "bytes"_a);
  m.def("memory_trim", [] {
    const nb::gil_scoped_release released;
    return trim_pool();
  });
  m.def("grad_part", &grad_part, "grad_output"_a.none(), "input"_a.none(), "target"_a.none(), "count"_a,
        "out"_a, kGradPartDoc);
  m.def("asnumpy", &asnumpy, "array"_a.none(), "name"_a = "array", kAsNumpyDoc);
  using mseloss::PartialSum;
  static_assert(std::is_trivially_copyable_v<PartialSum>);
  nb::class_<PartialSum>(m, "PartialSum", kPartialSumDoc)
      .def(nb::init<>())
      .def("add", &add_to_sum, "input"_a.none(), "target"_a.none(), nb::kw_only(), "exact"_a = false)
      .def("merge", &PartialSum::merge, "other"_a)
      .def("finish", &finish_sum, "reduction"_a.none(), "dtype"_a)
      .def_prop_ro("count", &PartialSum::count)
      .def_prop_ro("exact", &PartialSum::exact)
      .def("__getstate__",
           [](const PartialSum& self) {
             return nb::bytes(reinterpret_cast<const char*>(&self), sizeof(self));
           })
      .def("__setstate__", [](PartialSum& self, nb::bytes state) {
        if (state.size() != sizeof(self)) raise(PyExc_ValueError, "state: expected %zu bytes", sizeof(self));
        new (&self) PartialSum;
        std::memcpy(static_cast<void*>(&self), state.data(), sizeof(self));
      });
  nb::class_<Export>(m, "_Export")
      .def("__dlpack__",
           [](Export& self, nb::kwargs options) {
             const nb::object version = options.contains("max_version") ? options["max_version"] : nb::none();
             return nb::steal(self.capsule(!version.is_none() && nb::cast<int>(version[0]) >= 1));
           })
      .def("__dlpack_device__", [](const Export&) { return nb::make_tuple(kDLCPU, 0); });
}
