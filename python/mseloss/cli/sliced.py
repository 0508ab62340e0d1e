"""Losses over some axes and weighted gradients of arrays in files; their results are computed in memory."""

from __future__ import annotations

import numpy as np

import mseloss
from mseloss import _rounding
from mseloss._dtypes import native, numpy_dtype
from mseloss.cli import chunked, files


def loss(x, y, weight, names, reduction, axis, out, dtype):
    """Writes the loss of each slice to the file `out`. Returns (None, shape, dtype name).

    `names` are the operands' names on the command line, for error messages; likewise below.
    """
    _shape((x, y, weight), names)
    x, y, weight = native(x), native(y), native(weight)
    result = numpy_dtype(dtype) if dtype else _rounding.promote(x.dtype, y.dtype)
    values = mseloss.loss(x, y, reduction, weight=weight, axis=axis, dtype=result)
    return None, *_write(out, values, "loss")


def grad(g, x, y, weight, names, reduction, out, dtype):
    """Writes the gradient of the weighted loss to the file `out`. Returns (shape, dtype name)."""
    # A reduced loss has one element, and so has its grad_output, whatever the broadcast shape.
    shape = _shape((g if reduction == "none" else None, x, y, weight), names)
    g, x, y, weight = native(g), native(x), native(y), native(weight)
    memory = np.empty(shape, numpy_dtype(dtype)) if dtype else None
    _, gradient = mseloss.loss_and_grad(x, y, reduction, weight=weight, grad_output=g, out=memory)
    return _write(out, gradient, "grad_input")


def _shape(operands, names):
    """The shape to which the operands that are arrays broadcast. Raises FileError."""
    given = [(a, n) for a, n in zip(operands, names, strict=True) if isinstance(a, np.ndarray)]
    arrays, names = zip(*given, strict=True)
    chunked.check_rank(arrays, names)
    return chunked.broadcast_shape(arrays, names)


def _write(out, values, name):
    values = np.asarray(values)
    with files.write(out, values.shape, values.dtype, name) as put:
        put(values)
    return values.shape, values.dtype.name
