// Python errors as C++ exceptions, which nanobind turns back at the module's boundary.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <utility>

namespace mseloss::python {

// An owned reference, or null.
class Ref {
 public:
  Ref() = default;
  explicit Ref(PyObject* stolen) : object_(stolen) {}
  Ref(Ref&& other) noexcept : object_(other.release()) {}
  Ref& operator=(Ref&& other) noexcept {
    Ref old(std::exchange(object_, other.release()));
    return *this;
  }
  ~Ref() { Py_XDECREF(object_); }
  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

// Throws the Python error that is set.
[[noreturn]] void raise_current();
// Sets `exception` with a message in the format of PyErr_Format, and throws it.
[[noreturn]] void raise(PyObject* exception, const char* format, ...);

// Takes the error that foreign code has raised. Rethrows it unchanged if it is not about the object that was
// read: MemoryError, and everything that is not an Exception, such as KeyboardInterrupt and SystemExit.
Ref take_refusal();
// The first line of the refusal's message, or its type; PyTorch appends a stack trace in further lines.
Ref reason_of(const Ref& refusal);
// As raise(), with `cause` as the new exception's __cause__.
[[noreturn]] void raise_from(Ref cause, PyObject* exception, const char* format, ...);

// The attribute, or null if the object has none or refuses. `refusal` receives the first refusal.
Ref find_attribute(PyObject* object, const char* name, Ref* refusal);
// Takes the error that is set; `refusal` keeps the first one.
void note_refusal(Ref* refusal);

}  // namespace mseloss::python
