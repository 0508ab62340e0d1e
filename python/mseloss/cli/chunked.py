"""The operators and the check on arrays in files, chunk by chunk: files may be larger than memory."""

from __future__ import annotations

import math

import numpy as np

import mseloss
from mseloss import reference
from mseloss._dtypes import EXPECTED, NAMES, numpy_dtype
from mseloss.cli import files
from mseloss.report import Report, chunks, compare

_CHUNK = 1 << 22  # elements per chunk


def grad(g, x, y, reduction, out, dtype, progress):
    """Writes the gradient to the file `out`; returns its shape and the name of its dtype."""
    shape, operands = _broadcast(g, x, y)
    result = numpy_dtype(dtype) if dtype else x.dtype
    _check_grad(operands, x)
    count = x.size if reduction == "mean" else 0
    with files.write(out, shape, result, "grad_input") as put:
        for index in _tracked(shape, result, progress, "gradient"):
            a, b, c = (_at(operand, index) for operand in operands)
            chunk = np.empty(np.broadcast_shapes(a.shape, b.shape, c.shape), result)
            put(mseloss._core.grad_part(a, b, c, count, chunk))
    return shape, result.name


def loss(x, y, reduction, out, dtype, progress):
    """Returns (value, shape, dtype name). For "none", value is None and the loss goes to the file `out`."""
    shape, (x, y) = _broadcast(x, y)
    _check_floating(input=x, target=y)
    result = numpy_dtype(dtype) if dtype else reference.promote(x.dtype, y.dtype)
    if reduction == "none":
        with files.write(out, shape, result, "loss") as put:
            for index in _tracked(shape, result, progress, "loss"):
                put(mseloss.loss(_at(x, index), _at(y, index), "none", dtype=result))
        return None, shape, result.name
    # The exact sweep runs only if the fast one leaves the rounding undecided.
    for exact in (False, True):
        total = mseloss.PartialSum()
        for index in _tracked(shape, x.dtype, progress, "exact loss" if exact else "loss"):
            total.add(_at(x, index), _at(y, index), exact=exact)
        value = total.finish(reduction, result)
        if value is not None:
            break
    if out is not None:
        with files.write(out, (), result, "loss") as put:
            put(np.asarray(value))
    return value, (), result.name


def check(actual, expected, tolerance, worst, progress):
    """A `Report` on two arrays."""
    _check_floating(actual=actual, expected=expected)
    if actual.shape != expected.shape:
        return compare(actual, expected, tolerance=tolerance, worst=worst)
    report = Report(actual.shape, actual.dtype, tolerance=tolerance, worst=worst)
    for index in _tracked(actual.shape, actual.dtype, progress, "compare"):
        report.add(index, _at(actual, index), _at(expected, index))
    return report


def check_operator(operator, actual, g, x, y, reduction, tolerance, worst, progress):
    """A `Report` on `actual` against the reference's result for the inputs."""
    _check_floating(actual=actual, input=x, target=y)
    if operator == "loss" and reduction != "none":
        total = reference.ExactSum()
        shape, (x, y) = _broadcast(x, y)
        for index in _tracked(shape, x.dtype, progress, "golden loss"):
            total.add(_at(x, index), _at(y, index))
        golden = np.asarray(total.finish(reduction, actual.dtype))
        return compare(actual, golden, tolerance=tolerance, worst=worst)
    if operator == "loss":
        shape, (x, y) = _broadcast(x, y)
        operands, names = (x, y), ("input", "target")

        def golden(a, b):
            return reference.loss(a, b, "none", dtype=actual.dtype)
    else:
        shape, operands = _broadcast(g, x, y)
        names = ("grad_output", "input", "target")
        _check_grad(operands, x)
        scale = reference.grad_scale(reduction, x.size, x.dtype)

        def golden(a, b, c):
            return reference.scaled_grad(a, b, c, scale, x.dtype)

    if actual.shape != shape:
        report = Report(actual.shape, actual.dtype, tolerance=tolerance, worst=worst)
        report.shape_mismatch = (actual.shape, shape)
        return report
    report = Report(shape, actual.dtype, tolerance=tolerance, worst=worst)
    for index in _tracked(shape, actual.dtype, progress, "check"):
        parts = [_at(operand, index) for operand in operands]
        wanted = np.broadcast_to(golden(*parts), actual[index].shape)
        inputs = {n: np.broadcast_to(p, wanted.shape) for n, p in zip(names, parts, strict=True)}
        report.add(index, _at(actual, index), wanted, inputs)
    return report


def _broadcast(*arrays):
    """The broadcast shape, and the operands with leading dimensions of 1 to give all the same rank."""
    x = next(a for a in arrays if not isinstance(a, float))
    if isinstance(arrays[0], float):
        number = reference.round_number(arrays[0], x.dtype) if _known(x) else 0.0
        arrays = (np.asarray(number, x.dtype), *arrays[1:])
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise files.FileError(f"expected shapes that broadcast together, got {shapes}") from None
    return shape, [a.reshape((1,) * (len(shape) - a.ndim) + a.shape) for a in arrays]


def _at(array, index):
    """The part of an operand at `index` of the broadcast shape; a dimension of 1 is broadcast."""
    return array[
        tuple(
            i if n != 1 else (slice(None) if isinstance(i, slice) else 0)
            for i, n in zip(index, array.shape, strict=False)
        )
    ]


def _tracked(shape, dtype, progress, text):
    """Yields the indices of the chunks of `shape` and advances a progress bar by their bytes."""
    task = progress.add_task(text, total=math.prod(shape) * dtype.itemsize)
    inner = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    for index in chunks(shape, _CHUNK):
        yield index
        last = index[-1] if index else None
        rows = last.stop - last.start if isinstance(last, slice) else 1
        progress.advance(task, rows * inner[len(index) - 1] * dtype.itemsize if index else 1)


def _known(array):
    return array.dtype.name in NAMES


def _check_floating(**arrays):
    for name, array in arrays.items():
        if not _known(array) or not array.dtype.isnative:
            raise files.FileError(f"{name}: expected {EXPECTED}, got {array.dtype}")


def _check_grad(operands, x):
    g, _, y = operands
    _check_floating(grad_output=g, input=x, target=y)
    for name, array in (("grad_output", g), ("target", y)):
        if array.dtype != x.dtype:
            raise files.FileError(
                f"{name}: expected the dtype of input, {x.dtype}, got {array.dtype}"
            )
