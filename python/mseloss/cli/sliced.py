"""Losses over some axes and weighted gradients of arrays in files; their results are computed in memory."""

from __future__ import annotations

import numpy as np

import mseloss
from mseloss import reference
from mseloss._dtypes import numpy_dtype
from mseloss.cli import files


def loss(x, y, weight, reduction, axis, out, dtype):
    """Writes the loss of each slice to the file `out`. Returns (None, shape, dtype name)."""
    x, y, weight = _native(x), _native(y), _native(weight)
    result = numpy_dtype(dtype) if dtype else reference.promote(x.dtype, y.dtype)
    values = mseloss.loss(x, y, reduction, weight=weight, axis=axis, dtype=result)
    return None, *_write(out, values, "loss")


def grad(g, x, y, weight, reduction, out, dtype):
    """Writes the gradient of the weighted loss to the file `out`. Returns (shape, dtype name)."""
    g, x, y, weight = _native(g), _native(x), _native(y), _native(weight)
    memory = None
    if dtype:
        shapes = [array.shape for array in (x, y, weight)]
        if reduction == "none" and not isinstance(g, float):
            shapes.append(g.shape)
        memory = np.empty(np.broadcast_shapes(*shapes), numpy_dtype(dtype))
    _, gradient = mseloss.loss_and_grad(x, y, reduction, weight=weight, grad_output=g, out=memory)
    return _write(out, gradient, "grad_input")


def _native(array):
    """The array in native byte order; numbers and None as they are."""
    if array is None or isinstance(array, float) or array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def _write(out, values, name):
    values = np.asarray(values)
    with files.write(out, values.shape, values.dtype, name) as put:
        put(values)
    return values.shape, values.dtype.name
