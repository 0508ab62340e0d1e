#include "module/mapped_files.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace mseloss::python {

namespace nb = nanobind;

namespace {

std::atomic<uint64_t> faults{0};

// Puts a page of zeros where the file has none, so that the thread continues; the command asks for faults
// before it uses a result. Any other cause ends the process as it would without this function. Only
// async-signal-safe calls.
void replace_page(int number, siginfo_t* information, void*) {
  if (information->si_code == BUS_ADRERR) {
    const int error = errno;
    const auto size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    void* const page =
        reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(information->si_addr) & ~(size - 1));
    void* const zeros =
        mmap(page, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    errno = error;
    if (zeros != MAP_FAILED) {
      ++faults;
      return;
    }
  }
  signal(number, SIG_DFL);
  raise(number);
}

void catch_file_faults() {
  struct sigaction action {};
  action.sa_sigaction = &replace_page;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace

void add_mapped_files(nb::module_& m) {
  m.def("catch_file_faults", &catch_file_faults);
  m.def("file_faults", [] { return faults.load(); });
}

}  // namespace mseloss::python
