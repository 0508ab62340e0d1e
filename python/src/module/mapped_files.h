// What happens to reads of a mapped file that another program has shortened, and to writes to one on a full
// disk.
#pragma once

#include <nanobind/nanobind.h>

namespace mseloss::python {

void add_mapped_files(nanobind::module_& m);

}  // namespace mseloss::python
