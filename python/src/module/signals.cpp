#include "module/signals.h"

#include <Python.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace mseloss::python {
namespace {

bool handler_raised(void* /*context*/) {
  // Handlers run on the main thread only. Others must not wait for the GIL here.
  if (getpid() != static_cast<pid_t>(syscall(SYS_gettid))) return false;
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool raised = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return raised;
}

}  // namespace

const Interrupt kSignals{&handler_raised, nullptr};

}  // namespace mseloss::python
