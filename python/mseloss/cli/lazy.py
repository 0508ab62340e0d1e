"""The operators on Zarr arrays, through Dask: a task reads a block of each operand, computes and writes."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
from dask.callbacks import Callback
from dask.system import CPU_COUNT

import mseloss.dask
from mseloss import _rounding
from mseloss._dtypes import numpy_dtype
from mseloss.cli import chunked, files

_BLOCK = 64 << 20  # bytes of a block, unless a chunk of the store is larger


def array(operand):
    """A Dask array of a Zarr array."""
    return _array(operand, _block([operand], operand.shape))


def grad(g, x, y, weight, names, reduction, out, dtype, progress):
    """Writes the gradient to `out`; returns its shape and the name of its dtype.

    `names` are the operands' names on the command line, for error messages; likewise below.
    """
    # A reduced loss with weights has one element, and so has its grad_output, whatever the broadcast shape.
    scalar = weight is not None and reduction != "none"
    (g, x, y, weight), block = _operands((g, x, y, weight), names, beside=g if scalar else None)
    if weight is None:
        result = mseloss.dask.grad(g, x, y, reduction)
    else:
        _, result = mseloss.dask.loss_and_grad(x, y, reduction, weight=weight, grad_output=g)
    if dtype is not None:
        wanted = numpy_dtype(dtype)
        result = result.map_blocks(_rounding.convert, wanted, dtype=wanted)
    _store(result, out, "grad_input", block, progress, "gradient")
    return result.shape, result.dtype.name


def loss(x, y, weight, names, reduction, axis, out, dtype, progress):
    """Returns (value, shape, dtype name). For "none" and with `axis` value is None; `out` has the losses."""
    (x, y, weight), block = _operands((x, y, weight), names, reduced=axis or ())
    options = {"weight": weight, "dtype": dtype, "axis": tuple(axis) if axis else None}
    result = mseloss.dask.loss(x, y, reduction, **options)
    if reduction == "none":
        _store(result, out, "loss", block, progress, "loss")
        return None, result.shape, result.dtype.name
    with _tracked(progress, "loss", x.nbytes):
        values = np.asarray(_compute(result))
    if out is not None:
        _save(values, out)
    return None if axis else values[()], result.shape, result.dtype.name


def _operands(operands, names, beside=None, reduced=()):
    """The operands as Dask arrays of the same blocks, numbers and None as they are, and the block's shape."""
    given = [
        (a, n)
        for a, n in zip(operands, names, strict=True)
        if hasattr(a, "shape") and a is not beside
    ]
    arrays, names = zip(*given, strict=True)
    chunked.check_rank(arrays, names)
    shape = chunked.broadcast_shape(arrays, names)
    block = _block(arrays, shape, reduced)
    return [_array(a, block) if hasattr(a, "shape") else a for a in operands], block


def _block(arrays, shape, reduced=()):
    """A block of about _BLOCK bytes that consists of whole chunks of the first Zarr array of this shape.

    It is long along the `reduced` dimensions, so that few blocks have parts of the same slice.
    """
    stored = next((a for a in arrays if hasattr(a, "chunks") and a.shape == shape), None)
    block = [1] * len(shape) if stored is None else list(stored.chunks)
    size = max(a.dtype.itemsize for a in arrays)
    inner = [d % len(shape) for d in reduced if -len(shape) <= d < len(shape)]
    for d in [*inner, *reversed(range(len(shape)))]:
        room = _BLOCK // (size * math.prod(block))
        whole = -(-shape[d] // block[d]) if block[d] else 0
        block[d] *= max(1, min(room, whole))
    return tuple(block)


def _array(operand, block):
    limits = block[len(block) - operand.ndim :]
    chunks = tuple(max(1, min(n, b)) for n, b in zip(operand.shape, limits, strict=True))
    # A random name: the default, a hash of the content, would read the whole array.
    return da.from_array(operand, chunks=chunks, name=False)


def _store(result, out, name, block, progress, text):
    """Writes a Dask array to the file or store `out`."""
    with (
        files.region(out, result.shape, result.dtype, name, block) as target,
        _tracked(progress, text, result.nbytes),
    ):
        _compute(da.store(result, target, lock=False, compute=False))


def _save(values, out):
    if files.is_zarr(out):
        with files.region(out, values.shape, values.dtype, "loss", values.shape) as target:
            target[...] = values
    else:
        with files.write(out, values.shape, values.dtype, "loss") as put:
            put(values)


def _compute(lazy):
    # After an error Dask does not wait for tasks that are running; the pool does, so none writes any more.
    with ThreadPoolExecutor(CPU_COUNT) as pool:
        return dask.compute(lazy, scheduler="threads", pool=pool)[0]


@contextmanager
def _tracked(progress, text, size):
    """Advances a progress bar of `size` bytes with each task of the computations in the block."""
    task = progress.add_task(text, total=max(size, 1))
    shares = []

    def start(graph, state):
        shares.append(max(size, 1) / max(1, len(state["waiting"]) + len(state["ready"])))

    def advance(key, result, graph, state, worker):
        progress.advance(task, shares[-1])

    with Callback(start_state=start, posttask=advance):
        yield
