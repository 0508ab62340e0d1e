#include "arrays/numbers.h"

#include <cmath>

#include "arrays/errors.h"
#include "numerics/float_environment.h"
#include "numerics/formats.h"

namespace mseloss::python {
namespace {

// `integer` * 2^exponent as a double of at least 42 bits, rounded to odd: if the value is not exact, the last
// bit is set. Rounding the result to a format of at most 40 bits then gives the same value as rounding the
// integer itself.
double round_to_odd(int64_t integer, int exponent) {
  constexpr int64_t kExact = int64_t{1} << 53;
  constexpr int kExtraBits = 64 - 53;
  if (-kExact <= integer && integer <= kExact) return std::ldexp(static_cast<double>(integer), exponent);
  const int64_t kept = integer >> kExtraBits;
  const bool inexact = kept * (int64_t{1} << kExtraBits) != integer;
  return std::ldexp(static_cast<double>(kept | int64_t{inexact}), exponent + kExtraBits);
}

// Rounds an int of more than 63 bits, whose nearest double is `nearest`. Uses the operators of int itself,
// because a subclass may override them.
double round_large_to_odd(PyObject* integer, double nearest) {
  int bits;
  std::frexp(nearest, &bits);
  const PyNumberMethods& operators = *PyLong_Type.tp_as_number;
  const Ref shift(PyLong_FromLong(bits - 61));
  const Ref leading(shift ? operators.nb_rshift(integer, shift.get()) : nullptr);  // rounded down
  const Ref back(leading ? operators.nb_lshift(leading.get(), shift.get()) : nullptr);
  const Ref rest(back ? operators.nb_subtract(integer, back.get()) : nullptr);
  if (!rest) raise_current();
  const bool inexact = operators.nb_bool(rest.get()) != 0;
  return round_to_odd(PyLong_AsLongLong(leading.get()) | int64_t{inexact}, bits - 61);
}

// Converts an int to a double that rounds to the same value of `dtype` as the int itself.
double to_double(PyObject* number, DType dtype) {
  int overflow;
  const long long integer = PyLong_AsLongLongAndOverflow(number, &overflow);
  if (overflow == 0) {
    return dtype == DType::kFloat64 ? static_cast<double>(integer) : round_to_odd(integer, 0);
  }
  const double nearest = PyLong_AsDouble(number);
  if (nearest == -1 && PyErr_Occurred()) {
    PyErr_Clear();  // OverflowError
    return std::copysign(INFINITY, overflow);
  }
  return dtype == DType::kFloat64 ? nearest : round_large_to_odd(number, nearest);
}

}  // namespace

void store_number(PyObject* number, DType dtype, void* out) {
  const FloatEnvironment environment;  // the caller may flush subnormals or round in another direction
  const double value = PyFloat_Check(number) ? PyFloat_AS_DOUBLE(number) : to_double(number, dtype);
  store_rounded(value, dtype, out);
}

}  // namespace mseloss::python
