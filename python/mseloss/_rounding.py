"""Correctly rounded conversions between the dtypes, in plain NumPy and Python integers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from mseloss._dtypes import numpy_dtype

# significand bits including the implicit bit, exponent of the smallest subnormal, exponent of the largest
# value
_FORMATS = {
    "float32": (24, -149, 127),
    "float16": (11, -24, 15),
    "bfloat16": (8, -133, 127),
    "float64": (53, -1074, 1023),
}


def round_fraction(value, dtype):
    """A Fraction rounded to nearest even in `dtype`, as a Python float."""
    precision, lowest_bit, max_exponent = _FORMATS[numpy_dtype(dtype).name]
    if value == 0:
        return 0.0
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    last_bit = max(exponent - precision + 1, lowest_bit)
    rounded = round(magnitude / Fraction(2) ** last_bit) * Fraction(2) ** last_bit  # ties to even
    if rounded >= Fraction(2) ** (max_exponent + 1):
        rounded = math.inf
    return float(rounded) if value > 0 else -float(rounded)


def promote(a, b):
    """The promoted dtype of `a` and `b`."""
    if a == b:
        return a
    return np.dtype(np.float64 if "float64" in (a.name, b.name) else np.float32)


def compute_dtype(dtype):
    return np.dtype(np.float64 if dtype.name == "float64" else np.float32)


def convert(array, dtype):
    """`array` rounded once to `dtype`; unchanged if that is None."""
    dtype = array.dtype if dtype is None else numpy_dtype(dtype)
    with np.errstate(all="ignore"):
        if array.dtype.name == "float64" and dtype.name == "bfloat16":
            array = _to_odd_float32(array)
        return array.astype(dtype, copy=False)


def _to_odd_float32(array):
    # ml_dtypes converts float64 to bfloat16 through float32 and so rounds twice. If the first rounding is
    # to odd, the second gives the correctly rounded result.
    near = array.astype(np.float32)
    toward_zero = np.where(
        np.abs(near.astype(np.float64)) > np.abs(array), np.nextafter(near, np.float32(0)), near
    )
    inexact = (toward_zero.astype(np.float64) != array) & ~np.isnan(array)
    return (toward_zero.view(np.uint32) | inexact.astype(np.uint32)).view(np.float32)


def round_number(value, dtype):
    """A Python number rounded to nearest even in `dtype`; zeros keep their sign."""
    if isinstance(value, int):
        return round_fraction(Fraction(value), dtype)
    value = float(value)
    if value == 0 or not math.isfinite(value):
        return value
    return round_fraction(Fraction(value), dtype)


def mean_scale(count, dtype):
    """2 / count rounded once, as a NumPy scalar of `dtype`; 0 for a count of 0."""
    dtype = numpy_dtype(dtype)
    return dtype.type(round_fraction(Fraction(2, count), dtype) if count else 0)
