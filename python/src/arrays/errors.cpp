#include "arrays/errors.h"

#include <nanobind/nanobind.h>

#include <cstdarg>

namespace mseloss::python {
namespace {

// The error that is set, as an exception object; clears it.
Ref take_error() {
#if PY_VERSION_HEX >= 0x030c0000
  return Ref(PyErr_GetRaisedException());
#else
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (trace != nullptr) PyException_SetTraceback(value, trace);
  Py_XDECREF(type);
  Py_XDECREF(trace);
  return Ref(value);
#endif
}

void set_error(Ref exception) {
#if PY_VERSION_HEX >= 0x030c0000
  PyErr_SetRaisedException(exception.release());
#else
  PyObject* value = exception.release();
  PyErr_Restore(Py_NewRef(Py_TYPE(value)), value, PyException_GetTraceback(value));
#endif
}

void set_error(PyObject* exception, const char* format, va_list arguments) {
  PyErr_FormatV(exception, format, arguments);
}

}  // namespace

void raise_current() { throw nanobind::python_error(); }

void raise(PyObject* exception, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  set_error(exception, format, arguments);
  va_end(arguments);
  raise_current();
}

Ref take_refusal() {
  if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) raise_current();
  return take_error();
}

Ref reason_of(const Ref& refusal) {
  Ref text(PyObject_Str(refusal.get()));
  if (!text) take_refusal();  // an exception without a readable message
  if (!text || PyUnicode_GET_LENGTH(text.get()) == 0) {
    text = Ref(PyUnicode_FromString(Py_TYPE(refusal.get())->tp_name));
    if (!text) raise_current();
  }
  const Py_ssize_t length = PyUnicode_GET_LENGTH(text.get());
  const Py_ssize_t end = PyUnicode_FindChar(text.get(), '\n', 0, length, 1);
  if (end < 0) return text;
  Ref line(PyUnicode_Substring(text.get(), 0, end));
  if (!line) raise_current();
  return line;
}

void raise_from(Ref cause, PyObject* exception, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  set_error(exception, format, arguments);
  va_end(arguments);
  Ref raised = take_error();
  PyException_SetContext(raised.get(), Py_NewRef(cause.get()));
  PyException_SetCause(raised.get(), cause.release());
  set_error(std::move(raised));
  raise_current();
}

void note_refusal(Ref* refusal) {
  Ref error = take_refusal();
  if (!*refusal) *refusal = std::move(error);
}

Ref find_attribute(PyObject* object, const char* name, Ref* refusal) {
  Ref attribute(PyObject_GetAttrString(object, name));
  if (attribute) return attribute;
  if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
    PyErr_Clear();
  } else {
    note_refusal(refusal);
  }
  return attribute;
}

}  // namespace mseloss::python
