"""What the tasks of mseloss.dask compute from their chunks, which are NumPy arrays."""

from __future__ import annotations

import numpy as np

import mseloss
from mseloss import _core
from mseloss._dtypes import native
from mseloss._selection import without_nan


def elementwise(x, y, weight=None, *, dtype):
    """The squared differences of a chunk, times their weights."""
    x, y, weight = native(x), native(y), native(weight)
    return mseloss.loss(x, y, "none", weight=weight, dtype=dtype)


def sum_of(x, y, weight=None, *, skipna=False, exact=False):
    """The PartialSum of a chunk. `skipna` leaves out the elements of which an operand is NaN."""
    x, y, weight = native(x), native(y), native(weight)
    if skipna:
        x, y, weight = without_nan(x, y, weight)
    total = mseloss.PartialSum()
    total.add(x, y, weight=weight, exact=exact)
    return total


def sum_of_weights(weight, *, dtype, exact=False):
    """The PartialSum that has a chunk's weights in its divisor and nothing in its sum."""
    zero, total = np.zeros((), dtype), mseloss.PartialSum()
    total.add_divisor(zero, zero, weight=native(weight), exact=exact)
    return total


def merge(parts, axis=None, keepdims=True):
    """The sum of PartialSums in nested lists, one list for each axis, as dask.array.reduction gives them."""
    total = mseloss.PartialSum()
    for part in _flat(parts):
        total.merge(part)
    return total


def finish(parts, axis, keepdims, *, reduction, dtype, exact=None):
    """The loss of all chunks, rounded once.

    `exact` is a Dask array with the same loss from exact sums. It is computed only if the fast sums leave
    the rounding undecided, by the scheduler that runs this task.
    """
    value = merge(parts).finish(reduction, dtype)
    if value is None:
        return exact.compute()
    return np.asarray(value).reshape((1,) * len(axis)) if keepdims else value


def finish_scale(parts, axis, keepdims, *, dtype, copies, exact=None):
    """The factor of a mean's gradient, 2 / (copies * sum(w)), rounded once; `exact` as for `finish`."""
    once, total = merge(parts), mseloss.PartialSum()
    while copies:  # each weight counts as often as it is used
        if copies & 1:
            total.merge(once)
        once, copies = merge([once, once]), copies >> 1
    scale = total.scale("mean", dtype)
    return exact.compute() if scale is None else np.float64(scale)


def gradient(g, x, y, *, count):
    """The chunk's part of the gradient: of a mean over `count` elements, or for 0 of a sum."""
    g, x, y = native(g), native(x), native(y)
    out = _core.empty(np.broadcast_shapes(g.shape, x.shape, y.shape), x.dtype)
    return _core.grad_part(g, x, y, count, out)


def sum_and_gradient(g, x, y, weight=None, scale=None, *, factor=None):
    """The chunk's PartialSum and its part of the gradient, whose factor is `scale` or `factor`."""
    total = mseloss.PartialSum()
    gradient = total.add_with_grad(
        native(x),
        native(y),
        float(factor if scale is None else scale),
        weight=native(weight),
        grad_output=native(g),
    )
    return total, gradient


def slices(x, y, weight=None, *, reduction, axis, keepdims, dtype, skipna=False):
    """The loss of the slices of a chunk, which contains the whole of each."""
    x, y, weight = native(x), native(y), native(weight)
    if skipna:
        x, y, weight = without_nan(x, y, weight)
    return np.asarray(
        mseloss.loss(x, y, reduction, weight=weight, axis=axis, keepdims=keepdims, dtype=dtype)
    )


def slice_sums(x, y, weight=None, *, axis, skipna=False):
    """The exact sums of the parts of slices that are in a chunk."""
    x, y, weight = native(x), native(y), native(weight)
    if skipna:
        x, y, weight = without_nan(x, y, weight)
    return _core.SliceSums(x, y, axis, weight)


def merge_slices(parts, axis=None, keepdims=True):
    """The sum of SliceSums in nested lists, as for `merge`."""
    first, *others = _flat(parts)
    if not others:
        return first
    total = first.copy()
    for part in others:
        total.merge(part)
    return total


def finish_slices(parts, axis, keepdims, *, reduction, dtype):
    """The loss of each slice, rounded once."""
    values = merge_slices(parts).finish(reduction, dtype)
    return np.expand_dims(values, axis) if keepdims else values


def slice_sums_and_gradient(g, x, y, weight=None, *, axis, count, dtype):
    """The exact sums of the parts of slices in a chunk, and the chunk's part of the gradient.

    `count` is the number of elements of a whole slice for a mean, which has no weights, and 0 for a sum.
    `dtype` is that of input and target together.
    """
    g, x, y, weight = native(g), native(x), native(y), native(weight)
    shape = np.broadcast_shapes(*(a.shape for a in (x, y, weight) if a is not None))
    # The upstream gradient has the dimensions of the loss, from the last one on.
    g = g.reshape((1,) * (len(shape) - len(axis) - g.ndim) + g.shape)
    operands = [a.astype(dtype, copy=False) for a in (np.expand_dims(g, axis), x, y)]
    out = _core.empty(shape, x.dtype)
    _core.grad_part(*operands, count, out, weight)
    return _core.SliceSums(x, y, axis, weight), out


def loss_and_gradient(g, x, y, weight=None, *, reduction, axis, dtype):
    """The loss of a chunk's slices or elements, and the chunk's part of the gradient."""
    g, x, y, weight = native(g), native(x), native(y), native(weight)
    return mseloss.loss_and_grad(
        x, y, reduction, weight=weight, axis=axis, grad_output=g, dtype=dtype
    )


def first(pair):
    """The first of a task's two results. A reduced dimension wraps it into a list of one chunk."""
    while isinstance(pair, list):
        (pair,) = pair
    return pair[0]


def second(pair):
    return pair[1]


def itself(part, axis, keepdims):
    return part


def _flat(parts):
    if isinstance(parts, list):
        for part in parts:
            yield from _flat(part)
    else:
        yield parts
