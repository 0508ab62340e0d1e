"""The operators and the check on arrays in files, chunk by chunk: files may be larger than memory."""

from __future__ import annotations

import math

import numpy as np

import mseloss
from mseloss import _rounding, reference
from mseloss._dtypes import native_dtype, numpy_dtype
from mseloss.cli import files
from mseloss.report import Report, chunks

_CHUNK = 1 << 22  # elements per chunk
_MAX_RANK = 8  # of the kernels


def grad(g, x, y, names, reduction, out, dtype, progress):
    """Writes the gradient to the file `out`; returns its shape and the name of its dtype.

    `names` are the operands' names on the command line, for error messages; likewise below.
    """
    check_rank((g, x, y), names)
    shape, operands = _broadcast((g, x, y), names)
    result = numpy_dtype(dtype) if dtype else native_dtype(x)
    _check_grad(operands, names)
    count = x.size if reduction == "mean" else 0
    with files.write(out, shape, result, "grad_input") as put:
        for index in _tracked(shape, result, progress, "gradient"):
            a, b, c = (_at(operand, index) for operand in operands)
            chunk = np.empty(np.broadcast_shapes(a.shape, b.shape, c.shape), result)
            put(mseloss._core.grad_part(a, b, c, count, chunk))
    return shape, result.name


def loss(x, y, weight, names, reduction, out, dtype, progress):
    """Returns (value, shape, dtype name). For "none", value is None and the loss goes to the file `out`."""
    operands = (x, y) if weight is None else (x, y, weight)
    names = names[: len(operands)]
    check_rank(operands, names)
    shape, (x, y, *weights) = _broadcast(operands, names)

    def weight_at(index):
        return _at(weights[0], index) if weights else None

    result = numpy_dtype(dtype) if dtype else _rounding.promote(native_dtype(x), native_dtype(y))
    if reduction == "none":
        with files.write(out, shape, result, "loss") as put:
            for index in _tracked(shape, result, progress, "loss"):
                part = {"weight": weight_at(index), "dtype": result}
                put(mseloss.loss(_at(x, index), _at(y, index), "none", **part))
        return None, shape, result.name
    # The exact sweep runs only if the fast one leaves the rounding undecided.
    for exact in (False, True):
        total = mseloss.PartialSum()
        for index in _tracked(shape, x.dtype, progress, "exact loss" if exact else "loss"):
            total.add(_at(x, index), _at(y, index), weight=weight_at(index), exact=exact)
        value = total.finish(reduction, result)
        if value is not None:
            break
    if out is not None:
        with files.write(out, (), result, "loss") as put:
            put(np.asarray(value))
    return value, (), result.name


def check(actual, expected, tolerance, worst, progress):
    """A `Report` on two arrays."""
    report = Report(actual.shape, native_dtype(actual), tolerance=tolerance, worst=worst)
    if actual.shape != expected.shape:
        report.shape_mismatch = (actual.shape, expected.shape)
        return report
    for index in _tracked(actual.shape, actual.dtype, progress, "compare"):
        report.add(index, _at(actual, index), _at(expected, index))
    return report


def check_operator(operator, actual, g, x, y, files_of, reduction, tolerance, worst, progress):
    """A `Report` on `actual` against the reference's result for the inputs."""
    dtype = native_dtype(actual)
    report = Report(actual.shape, dtype, tolerance=tolerance, worst=worst)
    if operator == "loss" and reduction != "none":
        total = reference.ExactSum()
        shape, (x, y) = _broadcast((x, y), files_of[1:])
        for index in _tracked(shape, x.dtype, progress, "golden loss"):
            total.add(_at(x, index), _at(y, index))
        if actual.shape != ():
            report.shape_mismatch = (actual.shape, ())
        else:
            report.add((), _at(actual, ()), np.asarray(total.finish(reduction, dtype)))
        return report
    if operator == "loss":
        shape, (x, y) = _broadcast((x, y), files_of[1:])
        operands, names = (x, y), ("input", "target")

        def golden(a, b):
            return reference.loss(a, b, "none", dtype=dtype)
    else:
        shape, operands = _broadcast((g, x, y), files_of)
        names = ("grad_output", "input", "target")
        _check_grad(operands, files_of)
        scale = reference.grad_scale(reduction, x.size, native_dtype(x))

        def golden(a, b, c):
            return reference.scaled_grad(a, b, c, scale, native_dtype(x))

    if actual.shape != shape:
        report.shape_mismatch = (actual.shape, shape)
        return report
    for index in _tracked(shape, dtype, progress, "check"):
        parts = [_at(operand, index) for operand in operands]
        wanted = np.broadcast_to(golden(*parts), actual[index].shape)
        inputs = {n: np.broadcast_to(p, wanted.shape) for n, p in zip(names, parts, strict=True)}
        report.add(index, _at(actual, index), wanted, inputs)
    return report


def check_rank(arrays, names):
    """Raises FileError for arrays of more dimensions than the kernels have."""
    for array, name in zip(arrays, names, strict=True):
        if not isinstance(array, float) and array.ndim > _MAX_RANK:
            raise files.FileError(
                f"{name}: expected at most {_MAX_RANK} dimensions, got {array.ndim}"
            )


def _broadcast(arrays, names):
    """The broadcast shape, and the operands with leading dimensions of 1 to give all the same rank."""
    x = next(a for a in arrays if not isinstance(a, float))
    if isinstance(arrays[0], float):
        number = _rounding.round_number(arrays[0], native_dtype(x))
        arrays = (np.asarray(number, native_dtype(x)), *arrays[1:])
    shape = broadcast_shape(arrays, names)
    return shape, [a.reshape((1,) * (len(shape) - a.ndim) + a.shape) for a in arrays]


def broadcast_shape(arrays, names):
    """The shape that the arrays broadcast to. Raises FileError if there is none."""
    try:
        return np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        given = [(n, a.shape) for n, a in zip(names, arrays, strict=True) if a.ndim > 0]
        named, shapes = (", ".join(map(str, column)) for column in zip(*given, strict=True))
        raise files.FileError(
            f"{named}: expected shapes that broadcast together, got {shapes}"
        ) from None


def _at(array, index):
    """The part of an operand at `index` of the broadcast shape, in native byte order; a dimension of 1 is
    broadcast. Only parts in foreign byte order and of Dask arrays are copies."""
    block = array[
        tuple(
            i if n != 1 else (slice(None) if isinstance(i, slice) else 0)
            for i, n in zip(index, array.shape, strict=False)
        )
    ]
    block = np.asarray(block)  # computes a Dask array
    return block if block.dtype.isnative else block.astype(native_dtype(block))


def _tracked(shape, dtype, progress, text):
    """Yields the indices of the chunks of `shape` and advances a progress bar by their bytes."""
    task = progress.add_task(text, total=math.prod(shape) * dtype.itemsize)
    inner = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    for index in chunks(shape, _CHUNK):
        yield index
        files.faults.check()
        last = index[-1] if index else None
        rows = last.stop - last.start if isinstance(last, slice) else 1
        progress.advance(task, rows * inner[len(index) - 1] * dtype.itemsize if index else 1)


def _check_grad(operands, names):
    g, x, y = operands
    for name, array in ((names[0], g), (names[2], y)):
        if native_dtype(array) != native_dtype(x):
            raise files.FileError(
                f"{name}: expected the dtype of {names[1]}, {native_dtype(x)}, got {native_dtype(array)}"
            )
