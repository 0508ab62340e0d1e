"""The loss and its gradient for Dask arrays: lazy, with the same bits for all chunks and schedulers.

Each task reads the corresponding chunks of the operands once and computes a partial sum with an error bound,
its part of the gradient, or both. Partial sums are merged in a tree, at whose root the loss is rounded once.
If the bound leaves the rounding open, about once in a million losses of random data, the same scheduler
computes exact partial sums. So loss and gradient have the bits of `mseloss.loss` and
`mseloss.loss_and_grad` on the whole arrays, for all chunks, schedulers and numbers of workers.

>>> x = dask.array.from_zarr("prediction.zarr")
>>> y = dask.array.from_zarr("target.zarr")
>>> loss, gradient = mseloss.dask.loss_and_grad(x, y)
>>> dask.compute(loss, gradient.to_zarr("gradient.zarr", compute=False))

Operands may be chunked differently: then they are split at the boundaries of each other's chunks. At least
one of them is usually a Dask array; the others may be NumPy arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.graph_manipulation import clone

import mseloss
from mseloss import _rounding
from mseloss._axes import reduced_axes
from mseloss.dask import chunk
from mseloss.dask.operands import Operands, finished, tree

__all__ = ["grad", "loss", "loss_and_grad"]


def loss(
    input: Any,
    target: Any,
    reduction: str = "mean",
    *,
    weight: Any = None,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    dtype: Any = None,
    skipna: bool = False,
) -> da.Array:
    """The loss as a lazy Dask array, with the bits of `mseloss.loss`.

    Args:
        input, target: Dask or NumPy arrays of float32, float16, bfloat16 or float64 whose shapes broadcast
            together, chunked in any way. Different dtypes are promoted.
        reduction: "none", "mean" or "sum".
        weight: an array that broadcasts with both, of bool (a mask) or of a dtype that the promoted dtype
            represents.
        axis: the dimension, or a tuple of dimensions, to sum over; by default all.
        keepdims: whether these dimensions stay in the result, with extent 1.
        dtype: the result's dtype; by default the promoted dtype.
        skipna: whether to leave out the elements of which input, target or weight is NaN.

    Returns a Dask array: for "none" of the broadcast shape, otherwise of the dimensions that are not
    reduced. Raises ValueError and TypeError like `mseloss.loss`, and ValueError for unknown chunk sizes,
    before anything is computed.
    """
    call = Operands({"input": input, "target": target, "weight": weight})
    options = dict(axis=axis, keepdims=keepdims, dtype=dtype, weight=call.empty("weight"))
    result = _dtype(mseloss.loss(call.empty("input"), call.empty("target"), reduction, **options))
    if reduction == "none":
        if skipna:
            raise ValueError("skipna: expected False for reduction 'none', got True")
        return call.blockwise(partial(chunk.elementwise, dtype=result), result)
    axes = reduced_axes(axis, call.rank)
    if len(axes) == call.rank:
        finish = partial(chunk.finish, reduction=reduction, dtype=result)
        fast, exact = (partial(chunk.sum_of, skipna=skipna, exact=e) for e in (False, True))
        return finished(call.sums(fast), call.sums(exact), finish, result, keepdims)
    if not call.are_whole(axes):
        parts = call.sums(partial(chunk.slice_sums, axis=axes, skipna=skipna), axes=axes)
        finish = partial(chunk.finish_slices, reduction=reduction, dtype=result)
        return tree(parts, chunk.merge_slices, finish, result, keepdims, axes)
    options = dict(reduction=reduction, axis=axes, keepdims=keepdims, dtype=result, skipna=skipna)
    function = partial(chunk.slices, **options)
    return call.blockwise(function, result, reduced=axes, keepdims=keepdims)


def grad(grad_output: Any, input: Any, target: Any, reduction: str = "mean") -> da.Array:
    """The gradient as a lazy Dask array, with the bits of `mseloss.grad`.

    Args:
        grad_output, input, target: Dask or NumPy arrays of one dtype whose shapes broadcast together,
            chunked in any way; a Python number as `grad_output` takes the dtype of `input`.
        reduction: "none", "mean" (which divides by the element count of `input`) or "sum".

    Returns a Dask array of the broadcast shape and the dtype of `input`, one task for each chunk. Raises
    ValueError and TypeError like `mseloss.grad`, and ValueError for unknown chunk sizes.
    """
    call = Operands({"grad_output": grad_output, "input": input, "target": target})
    checked = mseloss.grad(*map(call.empty, ("grad_output", "input", "target")), reduction)
    count = call.arrays["input"].size if reduction == "mean" else 0
    return call.blockwise(partial(chunk.gradient, count=count), _dtype(checked))


def loss_and_grad(
    input: Any,
    target: Any,
    reduction: str = "mean",
    *,
    weight: Any = None,
    axis: int | Sequence[int] | None = None,
    grad_output: Any = 1.0,
    dtype: Any = None,
) -> tuple[da.Array, da.Array]:
    """The loss and its gradient as lazy Dask arrays, with the bits of `mseloss.loss_and_grad`.

    Compute both in one `dask.compute` so that each chunk is read once. (A mean with weights, other than one
    over some axes, reads the weights twice: the gradient needs their sum.)

    Args:
        input, target, reduction, weight, axis, dtype: as for `loss`.
        grad_output: a number or an array that broadcasts to the loss; for "none" one that broadcasts with
            the other operands.

    Returns (loss, gradient). The gradient has the dtype of `input` and the broadcast shape. Raises
    ValueError and TypeError like `mseloss.loss_and_grad`, and ValueError for unknown chunk sizes.
    """
    given = {"grad_output": grad_output, "input": input, "target": target, "weight": weight}
    call = Operands(given, beside=None if reduction == "none" else "grad_output")
    options = dict(axis=axis, dtype=dtype, weight=call.empty("weight"))
    options["grad_output"] = call.empty("grad_output")
    checked = mseloss.loss_and_grad(call.empty("input"), call.empty("target"), reduction, **options)
    result, gradient = map(_dtype, checked)
    axes = () if reduction == "none" else reduced_axes(axis, call.rank)
    call.check_beside(axes)
    promoted = _rounding.promote(call.empty("input").dtype, call.empty("target").dtype)
    if reduction == "none":
        options = dict(reduction=reduction, axis=None, dtype=result)
        pairs = call.blockwise(partial(chunk.loss_and_gradient, **options), object)
        value = call.blockwise(chunk.first, result, of=pairs)
    elif len(axes) == call.rank:
        value, pairs = _loss_and_pairs(call, reduction, result, promoted)
    elif call.are_whole(axes) or (reduction == "mean" and weight is not None):
        options = dict(reduction=reduction, axis=axes, dtype=result)
        pairs = call.with_whole(axes).blockwise(partial(chunk.loss_and_gradient, **options), object)
        value = call.blockwise(chunk.first, result, of=pairs, reduced=axes)
    else:
        count = math.prod(call.shape[d] for d in axes) if reduction == "mean" else 0
        options = dict(axis=axes, count=count, dtype=promoted)
        pairs = call.blockwise(partial(chunk.slice_sums_and_gradient, **options), object)
        finish = partial(chunk.finish_slices, reduction=reduction, dtype=result)
        parts = call.sums(chunk.first, of=pairs, axes=axes)
        value = tree(parts, chunk.merge_slices, finish, result, False, axes)
    return value, call.blockwise(chunk.second, gradient, of=pairs)


def _loss_and_pairs(call, reduction, result, promoted):
    """The loss over all dimensions, and the pairs of partial sum and gradient of all chunks."""
    scale = factor = None
    if reduction == "mean" and "weight" in call.arrays:
        scale = _scale(call, promoted)
    else:
        factor = _factor(call.shape, reduction, promoted)
    pairs = call.blockwise(partial(chunk.sum_and_gradient, factor=factor), object, scale=scale)
    finish = partial(chunk.finish, reduction=reduction, dtype=result)
    exact = call.sums(partial(chunk.sum_of, exact=True))
    return finished(call.sums(chunk.first, of=pairs), exact, finish, result), pairs


def _factor(shape, reduction, dtype):
    """The factor of a gradient without weights: 2, or for "mean" 2 / elements, rounded once."""
    elements, divisor = np.broadcast_to(np.zeros((), dtype), shape), mseloss.PartialSum()
    divisor.add_divisor(elements, elements)  # reads nothing
    return divisor.scale(reduction, dtype)


def _scale(call, dtype):
    """The factor of the gradient of a mean with weights, as a Dask array."""
    weight = call.arrays["weight"]
    copies = math.prod(call.shape) // weight.size if weight.size else 1
    # The chunks of a clone are read again. The originals would stay in memory until the sum is known.
    weights = Operands({"weight": clone(weight)})
    fast, exact = (
        weights.sums(partial(chunk.sum_of_weights, dtype=dtype, exact=e)) for e in (False, True)
    )
    finish = partial(chunk.finish_scale, dtype=dtype, copies=copies)
    return finished(fast, exact, finish, np.float64)


def _dtype(array):
    return np.asarray(array).dtype
