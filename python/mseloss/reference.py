"""A reference implementation in plain NumPy that shares no code with the kernels.

It is simple rather than fast: the gradient is three NumPy operations, sums are exact integers rounded once.
`mseloss.grad` and `mseloss.loss` must give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mseloss._axes import check_elementwise, reduced_axes
from mseloss._core import asnumpy
from mseloss._dtypes import numpy_dtype
from mseloss._rounding import (
    compute_dtype,
    convert,
    mean_scale,
    promote,
    round_fraction,
    round_number,
)

__all__ = ["ExactSum", "grad", "loss", "loss_and_grad", "mean_scale"]

_REDUCTIONS = ("none", "mean", "sum")


def grad(
    grad_output: Any, input: Any, target: Any, reduction: str = "mean", *, dtype: Any = None
) -> NDArray[Any]:
    """`((input - target) * scale) * grad_output`: three rounded operations, then one rounding to the
    inputs' dtype.

    Args:
        grad_output, input, target: arrays of the same dtype whose shapes broadcast together; a Python number
            as `grad_output` takes the dtype of `input`.
        reduction: "none", "mean" (scale = 2 / input.size) or "sum".
        dtype: the result is finally converted to this dtype; by default the dtype of `input`.

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
    scale = grad_scale(reduction, x.size, x.dtype)
    return convert(scaled_grad(g, x, y, scale, x.dtype), dtype)


def loss(
    input: Any,
    target: Any,
    reduction: str = "mean",
    *,
    weight: Any = None,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    dtype: Any = None,
) -> Any:
    """The squared differences times their weights, their exact sum, or that sum divided by the exact
    sum of the weights; rounded once.

    Args:
        input, target: arrays whose shapes broadcast together; different dtypes are promoted.
        reduction: "none", "mean" or "sum".
        weight: an array that broadcasts with both, of a dtype that the promoted dtype represents or bool; a
            bool weight leaves out the elements where it is False. By default every weight is 1.
        axis: the dimension, or a tuple of dimensions, to sum over; by default all.
        keepdims: whether these dimensions stay in the result, with extent 1.
        dtype: the result's dtype; by default the promoted dtype.

    Returns a NumPy array, or a NumPy scalar if no dimension is left. For empty input the sum is 0 and
    the mean is NaN. Raises ValueError and TypeError like `mseloss.loss`.

    >>> reference.loss(np.float32([1, 3]), np.float32([1, 1]))
    np.float32(2.0)
    """
    _check_reduction(reduction)
    x, y, w = _array(input, "input"), _array(target, "target"), _weight(weight)
    promoted = promote(x.dtype, y.dtype)
    _check_weight_dtype(w, promoted)
    result = promoted if dtype is None else numpy_dtype(dtype)
    if reduction == "none":
        check_elementwise(axis, keepdims)
        return convert(_elementwise(x, y, w, compute_dtype(promoted)), result)
    if w is None and axis is None and not keepdims:
        total = ExactSum()
        total.add(x, y)
        return total.finish(reduction, result)
    sums = _Slices(x, y, w, axis)
    value = sums.finish(reduction, result)
    return value[()] if keepdims else np.squeeze(value, sums.axes)[()]


def loss_and_grad(
    input: Any,
    target: Any,
    reduction: str = "mean",
    *,
    weight: Any = None,
    axis: int | Sequence[int] | None = None,
    grad_output: Any = 1.0,
) -> tuple[Any, NDArray[Any]]:
    """The loss, and its derivative with respect to `input` in the broadcast shape, times
    `grad_output`.

    Unlike `grad`, "mean" divides by the element count of the broadcast shape, or by the sum of the
    weights; with `axis`, by those of each slice. `grad_output` broadcasts to the loss. Returns (loss,
    gradient): the loss in the promoted dtype, the gradient in the dtype of `input`. Raises ValueError and
    TypeError like `mseloss.loss_and_grad`.
    """
    _check_reduction(reduction)
    x, y, w = _array(input, "input"), _array(target, "target"), _weight(weight)
    g = _array_or_number(grad_output, "grad_output", x.dtype)
    promoted = promote(x.dtype, y.dtype)
    _check_weight_dtype(w, promoted)
    if promote(promoted, g.dtype) != promoted:
        raise TypeError(
            f"grad_output: expected a dtype that converts exactly to {promoted}, got {g.dtype}"
        )
    shapes = [x.shape, y.shape] + ([] if w is None else [w.shape])
    if reduction == "none":
        check_elementwise(axis, False)
        shape = np.broadcast_shapes(*shapes, g.shape)
        value = np.broadcast_to(loss(x, y, "none", weight=w), shape).copy()
    else:
        shape = np.broadcast_shapes(*shapes)
        value = loss(x, y, reduction, weight=w, axis=axis)
        g = _expand(g, value.shape, reduced_axes(axis, len(shape)), axis is None)
    if w is None and axis is None:
        scale = grad_scale(reduction, math.prod(shape), promoted)
        gradient = scaled_grad(g, x, y, scale, promoted)
        return value, convert(np.broadcast_to(gradient, shape).copy(), x.dtype)
    compute = compute_dtype(promoted)
    scale = compute.type(2)
    if reduction == "mean":
        scale = _Slices(x, y, w, axis).scale(compute)
    gradient = _weighted_grad(g, x, y, w, scale, compute)
    return value, convert(convert(np.broadcast_to(gradient, shape).copy(), promoted), x.dtype)


def _elementwise(x, y, w, compute):
    with np.errstate(all="ignore"):
        d = x.astype(compute) - y.astype(compute)
        if w is None:
            return np.asarray(d * d)
        value = np.asarray((d * d) * w.astype(compute))
        return np.where(w, value, 0) if w.dtype == bool else value


def _weighted_grad(g, x, y, w, scale, compute):
    with np.errstate(all="ignore"):
        scaled = (x.astype(compute) - y.astype(compute)) * scale
        weight = g.astype(compute) if w is None else w.astype(compute) * g.astype(compute)
        value = np.asarray(scaled * weight)
        return value if w is None or w.dtype != bool else np.where(w, value, compute.type(0))


class _Slices:
    """The exact sums of w * d**2 and of w over some axes, as integers in NumPy arrays of objects."""

    def __init__(self, x, y, w, axis):
        compute = compute_dtype(promote(x.dtype, y.dtype))
        with np.errstate(all="ignore"):
            d = np.asarray(x.astype(compute) - y.astype(compute)).astype(np.float64)
            w = np.float64(1) if w is None else w
            shape = np.broadcast_shapes(d.shape, w.shape)
            d, used = np.broadcast_to(d, shape), np.broadcast_to(w, shape)
            if used.dtype == bool:
                d = np.where(used, d, 0)
            used = used.astype(np.float64)
            finite = np.isfinite(d) & np.isfinite(used)
            special = np.where(finite, 0, used * np.abs(d))
            weight_special = np.where(np.isfinite(used), 0, used)
        self.axes = reduced_axes(axis, len(shape))
        self._special = self._sum(special)
        self._weight_special = self._sum(weight_special)
        self._squares, self._unit = self._exact(np.where(finite, used, 0), np.where(finite, d, 0))
        self._weights, self._weight_unit = self._exact(np.where(np.isfinite(used), used, 0))

    def _sum(self, values):
        with np.errstate(all="ignore"):
            return np.asarray(values.sum(axis=self.axes, keepdims=True))

    def _exact(self, w, d=None):
        """The sums of w * d**2, or of w, in units of 2**unit; and that unit."""

        def integers(values):  # values = mantissa * 2**(exponent - 53)
            fraction, exponent = np.frexp(values)
            return np.ldexp(fraction, 53).astype(np.int64).astype(object), exponent - 53

        mantissa, exponent = integers(w)
        if d is not None:
            factor, own = integers(d)
            mantissa, exponent = mantissa * factor * factor, exponent + 2 * own
        used = np.asarray(mantissa, object) != 0
        unit = int(np.min(exponent, where=used, initial=0))
        shift = np.where(used, exponent - unit, 0).astype(object)
        terms = np.asarray(mantissa << shift, object)
        return np.asarray(terms.sum(axis=self.axes, keepdims=True), object), unit

    def _divisor(self, i):
        return Fraction(int(self._weights[i])) * Fraction(2) ** self._weight_unit

    def finish(self, reduction, dtype):
        result = np.empty(self._special.shape, np.float64)
        for i in np.ndindex(result.shape):
            result[i] = self._finish(i, reduction == "mean", dtype)
        with np.errstate(all="ignore"):
            return result.astype(dtype)

    def _finish(self, i, mean, dtype):
        special, divisor = float(self._special[i]), self._divisor(i) if mean else 1
        if math.isnan(special) or (mean and self._weight_special[i] != 0):
            return math.nan
        if special != 0:
            return -special if divisor < 0 else special
        value = Fraction(int(self._squares[i])) * Fraction(2) ** self._unit
        if divisor == 0:
            return math.nan if value == 0 else math.inf if value > 0 else -math.inf
        return round_fraction(value / divisor, dtype)

    def scale(self, compute):
        """2 / sum(w) of each slice, rounded once to the compute dtype."""
        result = np.empty(self._special.shape, compute)
        for i in np.ndindex(result.shape):
            divisor, special = self._divisor(i), float(self._weight_special[i])
            if special != 0:
                result[i] = 2 / special
            elif divisor == 0:
                result[i] = math.inf
            else:
                result[i] = round_fraction(2 / divisor, compute)
        return result


def grad_scale(reduction: str, count: int, dtype: Any) -> Any:
    """The gradient's scale for inputs of `dtype`: 2 / count for "mean", else 2, in the compute dtype."""
    compute = compute_dtype(dtype)
    return mean_scale(count, compute) if reduction == "mean" else compute.type(2)


def scaled_grad(grad_output: Any, input: Any, target: Any, scale: Any, dtype: Any) -> NDArray[Any]:
    """`((input - target) * scale) * grad_output`, computed in the dtype of `scale` and rounded to `dtype`."""
    compute = scale.dtype
    with np.errstate(all="ignore"):
        difference = input.astype(compute) - target.astype(compute)
        return convert(np.asarray((difference * scale) * grad_output.astype(compute)), dtype)


class ExactSum:
    """An exact sum of squared differences, added chunk by chunk in any order.

    >>> total = ExactSum()
    >>> total.add(x[:100], y[:100]); total.add(x[100:], y[100:])
    >>> total.finish("mean", "float32")
    """

    def __init__(self) -> None:
        self.count = 0
        self.special = 0.0  # infinity or NaN as soon as a difference is
        self._sums = {}  # exponent -> exact integer

    def add(self, input: Any, target: Any) -> None:
        """Adds `sum((input - target) ** 2)` over the broadcast shape."""
        x, y = _array(input, "input"), _array(target, "target")
        compute = compute_dtype(promote(x.dtype, y.dtype))
        shape = np.broadcast_shapes(x.shape, y.shape)
        if math.prod(shape) == 0:
            return
        chunks = np.nditer(
            [x, y],
            flags=["external_loop", "buffered"],
            op_flags=[["readonly"]] * 2,
            op_dtypes=[compute] * 2,
            casting="unsafe",
            buffersize=1 << 20,
        )
        for a, b in chunks:
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
            # A half has at most 28 bits and a chunk at most 2^20 elements, so bincount's float64 sums are
            # exact.
            for half, values in ((0, product & ((1 << 27) - 1)), (27, product >> 27)):
                for i, value in enumerate(np.bincount(place, weights=values)):
                    if value:
                        key = 2 * (lowest + i - 53) + shift + half
                        self._sums[key] = self._sums.get(key, 0) + int(value)

    def fraction(self) -> Fraction:
        """The exact sum of the finite terms."""
        if not self._sums:
            return Fraction(0)
        lowest = min(self._sums)
        total = sum(value << (key - lowest) for key, value in self._sums.items())
        return Fraction(total) * Fraction(2) ** lowest

    def finish(self, reduction: str, dtype: Any) -> Any:
        """The sum, or for "mean" the sum divided by the element count, rounded once to `dtype`; a scalar."""
        dtype = numpy_dtype(dtype)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
        if reduction == "mean" and self.count == 0:
            return dtype.type(math.nan)
        if self.special != 0:
            return dtype.type(self.special)
        value = self.fraction() / (self.count if reduction == "mean" else 1)
        with np.errstate(over="ignore"):
            return dtype.type(round_fraction(value, dtype))


def _array(value, name):
    if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    return asnumpy(value, name)


def _array_or_number(value, name, dtype):
    if isinstance(value, (np.integer, np.bool_)):
        value = int(value)
    if isinstance(value, (int, float)):
        return np.asarray(round_number(value, dtype), dtype)
    return _array(value, name)


def _weight(value):
    if value is None:
        return None
    if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):
        raise TypeError(f"weight: expected an array, got {type(value).__name__}")
    return asnumpy(value, "weight", weight=True)


def _check_weight_dtype(weight, promoted):
    if weight is None or weight.dtype == bool:
        return
    if promote(promoted, weight.dtype) != promoted:
        raise TypeError(
            f"weight: expected bool or a dtype that converts exactly to {promoted}, got {weight.dtype}"
        )


def _expand(grad_output, shape, axes, whole):
    """A grad_output that broadcasts to a loss of `shape`, with extents of 1 at `axes`."""
    if whole:
        if grad_output.size != 1:
            raise ValueError(
                "grad_output: expected one element for reduction mean or sum, "
                f"got shape {grad_output.shape}"
            )
        return grad_output.reshape(())
    try:
        return np.expand_dims(np.broadcast_to(grad_output, shape), axes)
    except ValueError:
        raise ValueError(
            f"grad_output: expected a shape that broadcasts to {shape}, got {grad_output.shape}"
        ) from None


def _check_reduction(reduction):
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
