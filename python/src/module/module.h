// The parts of mseloss._core, each added to the module by the file of the same name.
#pragma once

#include <nanobind/nanobind.h>

namespace mseloss::python {

void add_operators(nanobind::module_& m);
void add_partial_sum(nanobind::module_& m);
void add_slice_sums(nanobind::module_& m);

}  // namespace mseloss::python
