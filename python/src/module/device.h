// Arrays in the memory of a CUDA device.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace mseloss::python {

// Thrown where an operand turns out to be in device memory: the operators then leave the call to
// mseloss._device. In other functions it becomes a TypeError.
struct DeviceMemory {
  std::string parameter;
};

// The name of the current CUDA device, or a sentence that says why there is none.
std::string cuda_device();

void add_device(nanobind::module_& m);

}  // namespace mseloss::python
