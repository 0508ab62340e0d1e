"""Arrays that come through the buffer protocol: every field is checked before it is used."""

import array
import ctypes

import mseloss
import numpy as np
import pytest
from conftest import normal, same_bits
from foreign import EXPECTED, FORMATS, X, Y, read, refusal
from producers import (
    BufferExporter,
)


@pytest.mark.parametrize("kind", [ctypes.c_float, ctypes.c_double], ids=["float32", "float64"])
def test_ctypes_arrays_have_no_strides(kind):
    dtype = np.dtype(kind)
    x, y = (kind * 3)(1, 2, 3), np.zeros(3, dtype)
    assert mseloss.loss(x, y, "sum") == 14
    assert mseloss.grad(1.0, x, y, "sum").tolist() == [2, 4, 6]
    assert mseloss.grad(1.0, y, x, "sum").tolist() == [-2, -4, -6]
    out = (kind * 3)()
    assert mseloss.grad(1.0, x, y, "sum", out=out) is out
    assert list(out) == [2, 4, 6]
    table = ((kind * 2) * 3)((1, 2), (3, 4), (5, 6))
    assert same_bits(mseloss.loss(table, np.ones((3, 2), dtype)), dtype.type(55 / 6))
    assert mseloss.loss(kind(3), kind(1)) == 4  # no shape either


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_null_shape_and_strides_mean_one_contiguous_dimension(dtype):
    flat = normal(1, 12, dtype)
    assert same_bits(read(BufferExporter(flat, shape=None, strides=None)), flat)
    assert same_bits(read(BufferExporter(flat, strides=None)), flat)
    matrix = flat.reshape(3, 4)
    assert same_bits(read(BufferExporter(matrix, strides=None)), matrix)
    assert same_bits(read(BufferExporter(matrix[:, ::2])), matrix[:, ::2].copy())
    assert read(BufferExporter(flat[:1].reshape(()), shape=None, strides=None)).shape == ()


@pytest.mark.parametrize(
    ("fields", "exception", "words"),
    [
        ({"format": None}, TypeError, "got a buffer of format 'B'"),
        ({"format": b""}, TypeError, "got a buffer of format ''"),
        ({"format": b">f"}, TypeError, "got a buffer of format '>f'"),
        ({"format": b"!f"}, TypeError, "got a buffer of format '!f'"),
        ({"format": b"Zf"}, TypeError, "got a buffer of format 'Zf'"),
        ({"format": b"T{f:x:}"}, TypeError, "got a buffer of format 'T{f:x:}'"),
        ({"format": b"d"}, TypeError, "format 'd' and item size 4"),
        ({"itemsize": 8}, TypeError, "format 'f' and item size 8"),
        ({"itemsize": 0}, TypeError, "format 'f' and item size 0"),
        ({"itemsize": -4}, TypeError, "format 'f' and item size -4"),
        ({"ndim": -1}, ValueError, "at least 0 dimensions, got -1"),
        ({"ndim": 1 << 30}, ValueError, "at most 8 dimensions, got 1073741824"),
        ({"shape": None}, ValueError, "expected 2 extents, got no shape"),
        ({"shape": (3, -4)}, ValueError, "extents of at least 0, got -4"),
        ({"shape": (1 << 40, 1 << 40)}, ValueError, "inside the address space"),
        ({"strides": (1 << 62, 1 << 62)}, ValueError, "inside the address space"),
        ({"strides": (16, 3)}, ValueError, "strides of whole elements"),
        ({"suboffsets": (-1, 0)}, TypeError, "got a buffer of pointers"),
        ({"buf": None}, ValueError, "got a null pointer"),
        ({"len": 47}, ValueError, "a buffer of 48 bytes for its shape, got 47 bytes"),
        ({"len": -1}, ValueError, "got -1 bytes|for its shape"),
    ],
    ids=str,
)
def test_buffers_that_cannot_be_right(fields, exception, words):
    exporter = BufferExporter(X, **fields)
    refusal(exception, f"^input: .*{words}", mseloss.grad, 1.0, exporter, Y)
    refusal(exception, f"^target: .*{words}", mseloss.grad, 1.0, Y, exporter)
    refusal(exception, f"^out: .*{words}", mseloss.grad, 1.0, Y, Y, out=exporter)


def test_suboffsets_that_are_all_negative_mean_none():
    assert same_bits(read(BufferExporter(X, suboffsets=(-1, -1))), X)


@pytest.mark.parametrize("format", [b"f", b"@f", b"=f", b"<f"])
def test_spellings_of_the_native_byte_order(format):
    assert same_bits(read(BufferExporter(X, format=format)), X)


def test_an_output_is_requested_as_writable():
    exporter = BufferExporter(np.empty_like(X))
    assert mseloss.grad(1.0, X, Y, out=exporter) is exporter
    assert same_bits(read(exporter), EXPECTED)
    assert [flags & 1 for flags in exporter.requests] == [
        1,
        0,
        0,
    ]  # PyBUF_WRITABLE; read, kept alive
    refusal(
        ValueError,
        "out: expected writable memory",
        mseloss.grad,
        1.0,
        X,
        Y,
        out=BufferExporter(X, readonly=1),
    )
    refusal(
        ValueError,
        "out: expected writable memory",
        mseloss.grad,
        1.0,
        X,
        Y,
        out=memoryview(X.tobytes()).cast("f", X.shape),
    )


def test_a_released_memoryview_is_named():
    view = memoryview(array.array("f", [1, 2]))
    view.release()
    error = refusal(TypeError, "target: .* memoryview: operation forbidden", mseloss.loss, X, view)
    assert isinstance(error.__cause__, ValueError)


def test_a_view_keeps_the_buffer_exported():
    memory = bytearray(normal(1, 4).tobytes())
    view = read(memoryview(memory).cast("f"))
    with pytest.raises(BufferError):
        memory.extend(b"more")
    assert not view.flags.writeable
    del view
    memory.extend(b"more")
