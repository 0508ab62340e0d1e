// Lets Python's signal handlers run during long calls, and end them, as for KeyboardInterrupt.
#pragma once

#include "mseloss/mseloss.h"

namespace mseloss::python {

// On the main thread, requests the end of the call if a handler has raised an exception, which is then set.
extern const Interrupt kSignals;

}  // namespace mseloss::python
