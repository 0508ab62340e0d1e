// Calls on arrays in the memory of a CUDA device, for mseloss/_device.py, which reads the arrays and creates
// the results; see there for the order of streams.
#include "module/device.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <exception>
#include <string>
#include <utility>

#include "arrays/dtypes.h"
#include "arrays/errors.h"
#include "cuda/library.h"
#include "module/arguments.h"
#include "module/gil.h"
#include "module/grad_part.h"
#include "plan/plan.h"

namespace mseloss::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

// An array as (address, dtype, shape, strides in elements), or None.
struct DeviceOperand {
  bool given = false;
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int rank = 0;
  int64_t shape[kMaxRank], strides[kMaxRank];

  explicit DeviceOperand(nb::handle array) {
    if (array.is_none()) return;
    given = true;
    const auto fields = nb::cast<nb::tuple>(array);
    data = reinterpret_cast<void*>(nb::cast<uintptr_t>(fields[0]));
    const auto name = nb::cast<std::string>(fields[1]);
    dtype = name == "bool" ? DType::kBool : parse_dtype(fields[1]);
    for (nb::handle extent : nb::cast<nb::tuple>(fields[2])) {
      if (rank == kMaxRank) raise(PyExc_ValueError, "expected at most %d dimensions, got more", kMaxRank);
      shape[rank++] = nb::cast<int64_t>(extent);
    }
    int d = 0;
    for (nb::handle stride : nb::cast<nb::tuple>(fields[3])) strides[d++] = nb::cast<int64_t>(stride);
  }
  std::span<const int64_t> extents() const { return {shape, static_cast<size_t>(rank)}; }
  std::span<const int64_t> steps() const { return {strides, static_cast<size_t>(rank)}; }
  ConstTensor view() const { return {data, dtype, extents(), steps()}; }
  Tensor output() const { return {data, dtype, extents(), steps()}; }
};

Options options_of(int device, uintptr_t stream) {
  Options options;
  options.device = Device::kCuda;
  options.device_index = device;
  options.stream = reinterpret_cast<void*>(stream);
  return options;
}

// Calls the core without the GIL, because the driver may wait for a queue that is full.
template <class Call>
void call_released(Call call) {
  Status status;
  {
    const nb::gil_scoped_release released;
    status = call();
  }
  check(status);
}

void run(nb::handle reduction_name, nb::handle grad_output, nb::handle input, nb::handle target,
         nb::handle weight, nb::handle loss_out, nb::handle out, int device, uintptr_t stream) {
  const DeviceOperand g(grad_output), x(input), y(target), w(weight), l(loss_out), o(out);
  const Reduction reduction = parse_reduction(reduction_name);
  const Options options = options_of(device, stream);
  call_released([&] {
    if (!o.given) {
      return w.given ? loss(x.view(), y.view(), w.view(), reduction, l.output(), options)
                     : loss(x.view(), y.view(), reduction, l.output(), options);
    }
    if (!l.given) return grad(g.view(), x.view(), y.view(), reduction, o.output(), options);
    return w.given ? loss_and_grad(x.view(), y.view(), w.view(), reduction, g.view(), l.output(), o.output(),
                                   options)
                   : loss_and_grad(x.view(), y.view(), reduction, g.view(), l.output(), o.output(), options);
  });
}

void run_grad_part(std::pair<int64_t, bool> count_and_held, nb::handle grad_output, nb::handle input,
                   nb::handle target, nb::handle weight, nb::handle out, int device, uintptr_t stream) {
  const DeviceOperand g(grad_output), x(input), y(target), w(weight), o(out);
  const Options options = options_of(device, stream);
  const auto [count, held] = count_and_held;
  call_released([&] {
    return w.given ? weighted_grad_part(g.view(), x.view(), y.view(), w.view(), 2, o.output(), options, held)
                   : grad_part(g.view(), x.view(), y.view(), count, o.output(), options, held);
  });
}

// The methods of PartialSum. They wait for the stream, because the sum is the host's.
void add(PartialSum& sum, bool exact, nb::handle input, nb::handle target, nb::handle weight, int device,
         uintptr_t stream) {
  const DeviceOperand x(input), y(target), w(weight);
  const auto mode = exact ? PartialSum::Mode::kExact : PartialSum::Mode::kFast;
  const Options options = options_of(device, stream);
  call_released([&] {
    return w.given ? sum.add(x.view(), y.view(), w.view(), mode, options)
                   : sum.add(x.view(), y.view(), mode, options);
  });
}

void add_divisor(PartialSum& sum, bool exact, nb::handle input, nb::handle target, nb::handle weight,
                 int device, uintptr_t stream) {
  const DeviceOperand x(input), y(target), w(weight);
  const auto mode = exact ? PartialSum::Mode::kExact : PartialSum::Mode::kFast;
  const Options options = options_of(device, stream);
  const ConstTensor weights = w.view();
  call_released(
      [&] { return sum.add_divisor(x.view(), y.view(), w.given ? &weights : nullptr, mode, options); });
}

void add_with_grad(PartialSum& sum, double scale, nb::handle grad_output, nb::handle input, nb::handle target,
                   nb::handle weight, nb::handle grad_input, int device, uintptr_t stream) {
  const DeviceOperand g(grad_output), x(input), y(target), w(weight), o(grad_input);
  const Options options = options_of(device, stream);
  const ConstTensor weights = w.view();
  call_released([&] {
    return sum.add_with_grad(x.view(), y.view(), w.given ? &weights : nullptr, scale, g.view(), o.output(),
                             options);
  });
}

// (address, dtype, shape, strides, device, whether it is read-only, whether it is a copy) of a DLPack capsule
// of device memory.
nb::object read_capsule(nb::handle capsule) {
  const char* name = PyCapsule_CheckExact(capsule.ptr()) ? PyCapsule_GetName(capsule.ptr()) : nullptr;
  const DLTensor* tensor = nullptr;
  uint64_t flags = 0;
  if (name != nullptr && std::strcmp(name, "dltensor_versioned") == 0) {
    const auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), name));
    if (managed->version.major != 1)
      raise(PyExc_TypeError, "expected DLPack 1, got version %u", managed->version.major);
    tensor = &managed->dl_tensor;
    flags = managed->flags;
  } else if (name != nullptr && std::strcmp(name, "dltensor") == 0) {
    tensor = &static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), name))->dl_tensor;
  }
  if (tensor == nullptr) raise(PyExc_TypeError, "expected a new DLPack capsule, got %R", capsule.ptr());
  const char* dtype = tensor->dtype == dlpack_dtype(DType::kBool) ? "bool" : nullptr;
  for (const DType known : kDTypes) {
    if (tensor->dtype == dlpack_dtype(known)) dtype = name_of(known);
  }
  if (dtype == nullptr)
    raise(PyExc_TypeError, "expected %s, got DLPack type code %d of %d bits", kDTypeNames, tensor->dtype.code,
          tensor->dtype.bits);
  nb::list shape, strides;
  int64_t dense = 1;
  for (int d = tensor->ndim; d-- > 0;) {
    shape.insert(0, nb::int_(tensor->shape[d]));
    strides.insert(0, nb::int_(tensor->strides == nullptr ? dense : tensor->strides[d]));
    dense *= tensor->shape[d];
  }
  return nb::make_tuple(reinterpret_cast<uintptr_t>(tensor->data) + tensor->byte_offset, dtype,
                        nb::tuple(shape), nb::tuple(strides), tensor->device.id,
                        (flags & kDLPackReadOnly) != 0, (flags & kDLPackIsCopied) != 0);
}

const cuda::Driver& loaded_driver() {
  const cuda::Driver* driver = nullptr;
  check(cuda::load_driver(&driver));
  return *driver;
}

// The name of the current CUDA device, or a sentence that says why there is none.
std::string describe() {
  const cuda::Driver* driver = nullptr;
  if (const Status status = cuda::load_driver(&driver); !status.ok()) return status.message();
  cuda::DeviceInfo info{};
  int previous = 0;
  if (const char* error = driver->enter(-1, &info, &previous)) return std::string("device: ") + error;
  const char* error = driver->describe(&info);
  driver->leave(previous);
  return error == nullptr ? std::string(info.name) : std::string("device: ") + error;
}

// The host waits for the stream.
void wait(uintptr_t stream) {
  const cuda::Driver& driver = loaded_driver();
  const char* error = nullptr;
  {
    const nb::gil_scoped_release released;
    error = driver.wait(reinterpret_cast<void*>(stream));
  }
  if (error != nullptr) raise(PyExc_RuntimeError, "stream: expected its work to finish, got: %s", error);
}

}  // namespace

std::string cuda_device() { return describe(); }

void add_device(nb::module_& m) {
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const DeviceMemory& memory) {
      PyErr_Format(PyExc_TypeError, "%s: expected memory of this processor, got that of a CUDA device",
                   memory.parameter.c_str());
    }
  });
  m.def("_device_run", &run, "reduction"_a, "grad_output"_a.none(), "input"_a, "target"_a, "weight"_a.none(),
        "loss"_a.none(), "out"_a.none(), "device"_a, "stream"_a);
  m.def("_device_grad_part", &run_grad_part, "count_and_held"_a, "grad_output"_a, "input"_a, "target"_a,
        "weight"_a.none(), "out"_a, "device"_a, "stream"_a);
  m.def("_device_add", &add, "sum"_a, "exact"_a, "input"_a, "target"_a, "weight"_a.none(), "device"_a,
        "stream"_a);
  m.def("_device_add_divisor", &add_divisor, "sum"_a, "exact"_a, "input"_a, "target"_a, "weight"_a.none(),
        "device"_a, "stream"_a);
  m.def("_device_add_with_grad", &add_with_grad, "sum"_a, "scale"_a, "grad_output"_a, "input"_a, "target"_a,
        "weight"_a.none(), "grad_input"_a, "device"_a, "stream"_a);
  m.def("_device_capsule", &read_capsule, "capsule"_a);
  m.def("_device_wait", &wait, "stream"_a);
}

}  // namespace mseloss::python
