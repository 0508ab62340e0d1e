"""The trusted answer in plain NumPy, independent of the kernels.

Slow and short on purpose: the gradient is three NumPy operations, the sums are exact integers rounded once.
`mseloss.grad` and `mseloss.loss` must give the same bits.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from mseloss._core import asnumpy

__all__ = ["ExactSum", "grad", "loss", "loss_and_grad", "mean_scale"]

_REDUCTIONS = ("none", "mean", "sum")
# significand bits with the hidden one, exponent of the smallest subnormal, exponent of the largest value
_FORMATS = {
    "float32": (24, -149, 127),
    "float16": (11, -24, 15),
    "bfloat16": (8, -133, 127),
    "float64": (53, -1074, 1023),
}


def grad(grad_output, input, target, reduction="mean", *, dtype=None):
    """`((input - target) * scale) * grad_output` in NumPy: three roundings, one more to the inputs' dtype.

    Args:
        grad_output, input, target: arrays of one dtype that broadcast together; a Python number as
            `grad_output` takes the dtype of `input`.
        reduction: "none", "mean" (scale = 2 / input.size) or "sum".
        dtype: what the result is converted to at last; by default the dtype of `input`.

    Returns a NumPy array of the broadcast shape. Raises ValueError and TypeError like `mseloss.grad`.

    >>> reference.grad(1.0, np.float32([1, 3]), np.float32([1, 1]))
    array([0., 2.], dtype=float32)
    """
    _check_reduction(reduction)
    x, y = _array(input, "input"), _array(target, "target")
    g = _array_or_number(grad_output, "grad_output", x.dtype)
    for name, array in (("grad_output", g), ("target", y)):
        if array.dtype != x.dtype:
            raise TypeError(f"{name}: expected the dtype of input, {x.dtype}, got {array.dtype}")
    compute = _compute_dtype(x.dtype)
    scale = mean_scale(x.size, compute) if reduction == "mean" else compute.type(2)
    return _convert(_convert(_chain(x, y, g, scale, compute), x.dtype), dtype)


def loss(input, target, reduction="mean", *, dtype=None):
    """The squared differences, their exact sum rounded once, or that sum divided by the count, rounded once.

    Args:
        input, target: arrays that broadcast together; two dtypes promote.
        reduction: "none", "mean" or "sum".
        dtype: of the result; by default the promoted dtype.

    Returns a NumPy array for "none", else a NumPy scalar. Of nothing, the sum is 0 and the mean NaN.

    >>> reference.loss(np.float32([1, 3]), np.float32([1, 1]))
    np.float32(2.0)
    """
    _check_reduction(reduction)
    x, y = _array(input, "input"), _array(target, "target")
    result = promote(x.dtype, y.dtype) if dtype is None else _dtype(dtype)
    compute = _compute_dtype(promote(x.dtype, y.dtype))
    if reduction == "none":
        with np.errstate(all="ignore"):
            d = x.astype(compute) - y.astype(compute)
            return _convert(np.asarray(d * d), result)
    total = ExactSum()
    total.add(x, y)
    return total.finish(reduction, result)


def loss_and_grad(input, target, reduction="mean", *, grad_output=1.0):
    """The loss, and its true derivative with respect to `input` in the broadcast shape.

    Unlike `grad`, "mean" divides by the count of the broadcast shape. Returns (loss, gradient).
    """
    _check_reduction(reduction)
    x, y = _array(input, "input"), _array(target, "target")
    g = _array_or_number(grad_output, "grad_output", x.dtype)
    promoted = promote(x.dtype, y.dtype)
    if promote(promoted, g.dtype) != promoted:
        raise TypeError(f"grad_output: expected a dtype that {promoted} holds, got {g.dtype}")
    if reduction == "none":
        shape = np.broadcast_shapes(x.shape, y.shape, g.shape)
        value = np.broadcast_to(loss(x, y, "none"), shape).copy()
    elif g.size != 1:
        raise ValueError(
            f"grad_output: expected one element for reduction mean or sum, got shape {g.shape}"
        )
    else:
        shape = np.broadcast_shapes(x.shape, y.shape)
        value = loss(x, y, reduction)
        g = g.reshape(())
    compute = _compute_dtype(promoted)
    scale = mean_scale(math.prod(shape), compute) if reduction == "mean" else compute.type(2)
    gradient = _convert(_chain(x, y, g, scale, compute), promoted)
    return value, _convert(np.broadcast_to(gradient, shape).copy(), x.dtype)


def mean_scale(count, dtype):
    """2 / count, rounded once to `dtype`, as a NumPy scalar; 0 for a count of 0."""
    dtype = _dtype(dtype)
    return dtype.type(round_fraction(Fraction(2, count), dtype) if count else 0)


class ExactSum:
    """A sum of squared differences as an exact fraction, whatever the size, order and pieces.

    >>> total = ExactSum()
    >>> total.add(x[:100], y[:100]); total.add(x[100:], y[100:])
    >>> total.finish("mean", "float32")
    """

    def __init__(self):
        self.count = 0
        self.special = 0.0  # infinity or NaN, once a difference is
        self._sums = {}  # exponent -> exact integer

    def add(self, input, target):
        """Adds `sum((input - target) ** 2)` over the broadcast shape."""
        x, y = _array(input, "input"), _array(target, "target")
        compute = _compute_dtype(promote(x.dtype, y.dtype))
        shape = np.broadcast_shapes(x.shape, y.shape)
        if math.prod(shape) == 0:
            return
        pieces = np.nditer(
            [x, y],
            flags=["external_loop", "buffered"],
            op_flags=[["readonly"]] * 2,
            op_dtypes=[compute] * 2,
            casting="unsafe",
            buffersize=1 << 20,
        )
        for a, b in pieces:
            with np.errstate(all="ignore"):
                self._add_differences(np.atleast_1d(a - b))

    def _add_differences(self, d):
        self.count += d.size
        if not np.isfinite(d).all():
            found = math.nan if np.isnan(d).any() else math.inf
            self.special = self.special + found  # NaN stays NaN
            return
        fraction, exponent = np.frexp(np.abs(d).astype(np.float64))
        mantissa = np.ldexp(fraction, 53).astype(np.int64)  # d = mantissa * 2^(exponent - 53)
        lowest = int(exponent.min())
        place = (exponent - lowest).astype(np.int64)
        high, low = mantissa >> 27, mantissa & ((1 << 27) - 1)
        for shift, product in ((0, low * low), (27, 2 * high * low), (54, high * high)):
            # Each half has at most 28 bits and a piece at most 2^20 elements: exact in bincount's float64.
            for half, values in ((0, product & ((1 << 27) - 1)), (27, product >> 27)):
                for i, value in enumerate(np.bincount(place, weights=values)):
                    if value:
                        key = 2 * (lowest + i - 53) + shift + half
                        self._sums[key] = self._sums.get(key, 0) + int(value)

    def fraction(self):
        """The finite part of the sum, exactly."""
        if not self._sums:
            return Fraction(0)
        lowest = min(self._sums)
        total = sum(value << (key - lowest) for key, value in self._sums.items())
        return Fraction(total) * Fraction(2) ** lowest

    def finish(self, reduction, dtype):
        """The sum, or for "mean" the sum divided by the count, rounded once: a scalar of `dtype`."""
        dtype = _dtype(dtype)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
        if reduction == "mean" and self.count == 0:
            return dtype.type(math.nan)
        if self.special != 0:
            return dtype.type(self.special)
        value = self.fraction() / (self.count if reduction == "mean" else 1)
        with np.errstate(over="ignore"):
            return dtype.type(round_fraction(value, dtype))


def round_fraction(value, dtype):
    """A Fraction rounded to nearest even in `dtype`, as a Python float."""
    precision, lowest_bit, max_exponent = _FORMATS[_dtype(dtype).name]
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
    """The dtype in which arrays of dtypes `a` and `b` meet."""
    if a == b:
        return a
    return np.dtype(np.float64 if "float64" in (a.name, b.name) else np.float32)


def _chain(x, y, g, scale, compute):
    with np.errstate(all="ignore"):
        difference = x.astype(compute) - y.astype(compute)
        return np.asarray((difference * scale) * g.astype(compute))


def _compute_dtype(dtype):
    return np.dtype(np.float64 if dtype.name == "float64" else np.float32)


def _convert(array, dtype):
    dtype = array.dtype if dtype is None else _dtype(dtype)
    with np.errstate(all="ignore"):
        if array.dtype.name == "float64" and dtype.name == "bfloat16":
            array = _to_odd_float32(array)
        return array.astype(dtype, copy=False)


def _to_odd_float32(array):
    # ml_dtypes rounds float64 to float32 and then to bfloat16. With the first rounding to odd, the second is
    # the only one that counts.
    near = array.astype(np.float32)
    toward_zero = np.where(
        np.abs(near.astype(np.float64)) > np.abs(array), np.nextafter(near, np.float32(0)), near
    )
    inexact = (toward_zero.astype(np.float64) != array) & ~np.isnan(array)
    return (toward_zero.view(np.uint32) | inexact.astype(np.uint32)).view(np.float32)


def _array(value, name):
    if isinstance(value, (bool, int, float, list, tuple)) and not isinstance(value, np.generic):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    return asnumpy(value, name)


def _array_or_number(value, name, dtype):
    if isinstance(value, (int, float)):
        return np.asarray(round_fraction_or_special(value, dtype), dtype)
    return _array(value, name)


def round_fraction_or_special(value, dtype):
    """A Python number rounded to nearest even in `dtype`; zeros keep their sign."""
    value = float(value)
    if value == 0 or not math.isfinite(value):
        return value
    return round_fraction(Fraction(value), dtype)


def _dtype(dtype):
    if isinstance(dtype, np.dtype):
        return dtype
    if isinstance(dtype, str) and dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def _check_reduction(reduction):
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
