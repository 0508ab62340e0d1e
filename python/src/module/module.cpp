// The module mseloss._core: the operators, partial sums, and the settings of library and memory pool.
#include "module/module.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <atomic>
#include <cstdlib>

#include "arrays/dlpack.h"
#include "arrays/result_array.h"
#include "backend.h"
#include "memory/pool.h"
#include "module/arguments.h"
#include "module/device.h"
#include "module/docstrings.h"
#include "module/mapped_files.h"
#include "module/signals.h"
#include "torch/core_api.h"
#include "torch/kernels.h"

namespace mseloss::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

// One sentence about each environment variable whose value cannot be used and is therefore ignored.
nb::list check_environment() {
  nb::list sentences;
  if (const Status status = mseloss::check_environment(); !status.ok()) {
    sentences.append(nb::steal(PyUnicode_FromFormat("%s", status.message())));  // replaces invalid UTF-8
  }
  if (size_t bytes; !read_limit_variable(&bytes)) {
    sentences.append(
        nb::steal(PyUnicode_FromFormat("MSELOSS_MEMORY_LIMIT: expected a number of bytes, got \"%.32s\"",
                                       std::getenv("MSELOSS_MEMORY_LIMIT"))));
  }
  return sentences;
}

// Which training step mseloss.torch uses; null until it is imported.
std::atomic<const char*> torch_step{nullptr};

void set_torch_step(bool compiled) { torch_step = compiled ? "compiled" : "python"; }

nb::dict info() {
  nb::dict result;
  result["version"] = version();
  result["device"] = host_backend->name;
  result["cuda"] = cuda_device();
  result["target"] = target();
  result["supported_targets"] = nb::str(supported_targets()).attr("split")();
  result["threads"] = max_threads();
  const char* const step = torch_step;
  result["torch_step"] = step == nullptr ? nb::none() : nb::object(nb::str(step));
  result["torch_threads"] = torch_threads() != nullptr;
  result["memory_limit"] = pool_limit();
  result["environment"] = check_environment();
  return result;
}

void set_target(nb::handle name) {
  if (name.is_none()) return check(mseloss::set_target(nullptr));
  if (!PyUnicode_Check(name.ptr())) {
    raise(PyExc_TypeError, "name: expected the name of a target or None, got %R", name.ptr());
  }
  const char* text = PyUnicode_AsUTF8(name.ptr());
  if (text == nullptr) {
    take_refusal();  // a lone surrogate
    raise(PyExc_ValueError, "name: expected the name of a target or None, got %R", name.ptr());
  }
  check(mseloss::set_target(text));
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
  const Ref integer(PyNumber_Index(bytes.ptr()));
  const size_t limit = integer ? PyLong_AsSize_t(integer.get()) : 0;
  if (PyErr_Occurred()) {
    take_refusal();
    raise(integer ? PyExc_ValueError : PyExc_TypeError, "bytes: expected a number of bytes from 0 on, got %R",
          bytes.ptr());
  }
  set_pool_limit(limit);
}

void add_settings(nb::module_& m) {
  m.def("info", &info, kInfoDoc);
  m.def("check_environment", &check_environment,
        "One sentence for each environment variable of the library whose value is invalid and ignored.");
  m.def("set_target", &set_target, "name"_a.none(), kSetTargetDoc);
  m.def("use_torch_threads", &use_torch_threads, "use"_a, kUseTorchThreadsDoc);
  m.def("set_torch_step", &set_torch_step, "compiled"_a);
  m.def("register_torch_kernels", &register_torch_kernels);
  m.def("memory_usage", &memory_usage, "The pool's bytes and blocks, in use and idle, as a dict.");
  m.def("memory_limit", &pool_limit, "The most idle memory that the pool keeps, in bytes.");
  m.def("memory_set_limit", &memory_set_limit, "bytes"_a.none(),
        "Sets the most idle memory that the pool keeps, and frees what exceeds it. ValueError: a negative "
        "number.");
  m.def("memory_trim", &trim_pool, nb::call_guard<nb::gil_scoped_release>(),
        "Frees all idle memory of the pool; returns its bytes.");
}

nb::object export_dlpack(DLPackExport& self, nb::kwargs options) {
  const nb::object version = options.contains("max_version") ? options["max_version"] : nb::none();
  return nb::steal(self.capsule(!version.is_none() && nb::cast<int>(version[0]) >= 1));
}

void add_dlpack_export(nb::module_& m) {
  nb::class_<DLPackExport>(m, "_Export")
      .def("__dlpack__", &export_dlpack)
      .def("__dlpack_device__", [](const DLPackExport&) { return nb::make_tuple(kDLCPU, 0); });
}

void add_core_api(nb::module_& m) {
  static constexpr CoreApi api{
      .grad = mseloss::grad,
      .loss = mseloss::loss,
      .loss_and_grad = mseloss::loss_and_grad,
      .weighted_loss = mseloss::loss,
      .weighted_loss_and_grad = mseloss::loss_and_grad,
      .acquire = acquire,
      .release = release,
      .torch_options = torch_options,
      .dense_strides = dense_strides,
      .signals = &kSignals,
  };
  m.attr("_native") = nb::capsule(&api, kCoreApiCapsule);
}

}  // namespace
}  // namespace mseloss::python

NB_MODULE(_core, m) {
  using namespace mseloss::python;
  m.attr("__version__") = mseloss::version();
  add_operators(m);
  add_partial_sum(m);
  add_slice_sums(m);
  add_mapped_files(m);
  add_settings(m);
  add_dlpack_export(m);
  add_core_api(m);
  add_device(m);
}
