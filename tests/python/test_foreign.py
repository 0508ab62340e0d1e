"""Arrays of other libraries: every field of every protocol is checked before it is used.

A description that is valid gives the same bits as the NumPy array that it describes; any other raises
ValueError or TypeError with a sentence that names the parameter.
"""

import array
import ctypes

import ml_dtypes
import mseloss
import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from mseloss import reference
from producers import (
    BFLOAT,
    COMPLEX,
    FLOAT,
    INT,
    IS_COPIED,
    READ_ONLY,
    BufferExporter,
    DLPack,
    Interface,
    WithArray,
    fields_of,
)

X = normal(1, (3, 4))
Y = normal(2, (3, 4))
EXPECTED = reference.grad(1.0, X, Y)
FORMATS = [d for d in DTYPES if d.name != "bfloat16"]  # of the struct module


def read(array):
    return mseloss._core.asnumpy(array, "input")


def refusal(exception, words, call, *arguments, **options):
    with pytest.raises(exception, match=words) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return caught.value


# The buffer protocol


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


# DLPack


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "old"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_optional_fields_of_dlpack(versioned, dtype):
    x = normal(1, (3, 4), dtype)
    for device in (1, 3, 11, 13):  # memory that the processor can access
        assert same_bits(read(DLPack(x, versioned=versioned, device_type=device)), x)
    assert same_bits(read(DLPack(x, versioned=versioned, strides=None)), x)
    scalar = x[:1, 0].reshape(())
    assert same_bits(read(DLPack(scalar, versioned=versioned, shape=None, strides=None)), scalar)
    moved = DLPack(x, versioned=versioned, byte_offset=x.strides[0], shape=(2, 4))
    assert same_bits(read(moved), x[1:])
    backwards = DLPack(x, versioned=versioned, byte_offset=11 * x.itemsize, strides=(-4, -1))
    assert same_bits(read(backwards), x[::-1, ::-1].copy())
    nothing = DLPack(x, versioned=versioned, data=None, shape=(0, 4))
    assert read(nothing).shape == (0, 4)


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "old"])
@pytest.mark.parametrize(
    ("fields", "exception", "words"),
    [
        ({"ndim": -1}, ValueError, "at least 0 dimensions, got -1"),
        ({"ndim": 9, "shape": (1,) * 9, "strides": None}, ValueError, "at most 8 dimensions"),
        ({"ndim": 2**31 - 1}, ValueError, "at most 8 dimensions, got 2147483647"),
        ({"shape": None}, ValueError, "expected 2 extents, got no shape"),
        ({"shape": (3, -1)}, ValueError, "extents of at least 0, got -1"),
        ({"shape": (2**62, 4), "strides": None}, ValueError, "inside the address space"),
        ({"strides": (2**62, 1)}, ValueError, "inside the address space"),
        ({"strides": (-(2**63), 1)}, ValueError, "inside the address space"),
        ({"byte_offset": 2**64 - 1}, ValueError, "inside the address space"),
        ({"data": None}, ValueError, "got a null pointer"),
        ({"data": None, "byte_offset": 64}, ValueError, "got a null pointer"),
        ({"lanes": 0}, TypeError, "code 2 of 32 bits and 0 lanes"),
        ({"lanes": 2}, TypeError, "code 2 of 32 bits and 2 lanes"),
        ({"code": INT}, TypeError, "code 0 of 32 bits"),
        ({"code": COMPLEX}, TypeError, "code 5 of 32 bits"),
        ({"code": BFLOAT}, TypeError, "code 4 of 32 bits"),
        ({"code": 255}, TypeError, "code 255 of 32 bits"),
        ({"bits": 8}, TypeError, "code 2 of 8 bits"),
        ({"bits": 128}, TypeError, "code 2 of 128 bits"),
        ({"device_type": 2}, TypeError, "memory of this processor, .* device type 2"),
        ({"device_type": 0}, TypeError, "device type 0"),
        ({"device_type": -7}, TypeError, "device type -7"),
        ({"name": b"used_dltensor"}, TypeError, "used already"),
        ({"name": b"used_dltensor_versioned"}, TypeError, "used already"),
        ({"name": b"tensor"}, TypeError, "got another capsule"),
    ],
    ids=str,
)
def test_dlpack_that_cannot_be_right(versioned, fields, exception, words):
    producer = DLPack(X, versioned=versioned, **fields)
    refusal(exception, f"^input: .*{words}", mseloss.grad, 1.0, producer, Y)
    refusal(exception, f"^target: .*{words}", mseloss.loss, Y, producer)
    refusal(exception, f"^grad_output: .*{words}", mseloss.grad, producer, Y, Y)
    refusal(exception, f"^(out|grad_input): .*{words}", mseloss.grad, 1.0, Y, Y, out=producer)


def test_versions_and_flags_of_dlpack():
    assert same_bits(read(DLPack(X, flags=READ_ONLY)), X)
    assert same_bits(read(DLPack(X, flags=IS_COPIED)), X)
    refusal(TypeError, "input: expected DLPack 1, got version 2", read, DLPack(X, major=2))
    refusal(TypeError, "input: expected DLPack 1, got version 0", read, DLPack(X, major=0))
    out = DLPack(np.empty_like(X))
    assert mseloss.grad(1.0, X, Y, out=out) is out
    assert same_bits(read(out), EXPECTED)
    for flags, exception, words in (
        (READ_ONLY, ValueError, "out: expected writable memory"),
        (IS_COPIED, TypeError, "out: expected an array to write to, got one that exports a copy"),
    ):
        refusal(exception, words, mseloss.grad, 1.0, X, Y, out=DLPack(X.copy(), flags=flags))


@pytest.mark.parametrize("returned", [42, None, "capsule", X], ids=["int", "None", "str", "array"])
def test_dlpack_without_a_capsule(returned):
    class Producer:
        def __dlpack__(self, **options):
            return returned

    words = f"target: expected a DLPack capsule from __dlpack__, got .*{type(returned).__name__}"
    refusal(TypeError, words, mseloss.loss, X, Producer())


def test_an_exchange_api_of_another_kind():
    class Producer:
        __dlpack_c_exchange_api__ = 42

    refusal(TypeError, "input: .*__dlpack_c_exchange_api__", mseloss.loss, Producer(), X)


# __array_interface__


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_array_interface(dtype):
    x = normal(1, (3, 4), dtype)
    assert same_bits(read(Interface(x)), x)
    assert same_bits(read(Interface(x.T)), x.T.copy())
    assert same_bits(read(Interface(x[::-1, ::2])), x[::-1, ::2].copy())
    assert same_bits(read(Interface(x, strides=...)), x)
    assert same_bits(read(Interface(x, strides=x.strides)), x)
    assert same_bits(read(Interface(x[0, 0:1].reshape(()))), x[0, 0:1].reshape(()))
    memory = x.tobytes()
    assert same_bits(read(Interface(x, data=memory)), x)
    assert same_bits(read(Interface(x, data=memory, offset=x.strides[0], shape=(2, 4))), x[1:])
    backwards = Interface(
        x, data=memory, offset=11 * x.itemsize, strides=(-x.strides[0], -x.itemsize)
    )
    assert same_bits(read(backwards), x[::-1, ::-1].copy())
    out = Interface(np.empty_like(x))
    assert mseloss.grad(1.0, x, x, out=out) is out
    assert (read(out) == 0).all()
    buffer = bytearray(x.nbytes)
    ones = np.ones_like(x)
    mseloss.grad(1.0, ones - 1, ones, "sum", out=Interface(x, data=buffer))
    assert (np.frombuffer(buffer, dtype) == -2).all()


def test_array_interface_whose_memory_is_the_object_itself():
    interface = {"version": 3, "shape": (3,), "typestr": "<f4"}
    Memory = type("Memory", (bytearray,), {"__array_interface__": interface})  # noqa: N806
    Hidden = type("Hidden", (), {"__array_interface__": interface})  # noqa: N806

    words = "input: expected an address or a buffer .* got Hidden"
    refusal(TypeError, words, mseloss.loss, Hidden(), X)
    # The buffer protocol comes first; a bytearray is no array of floats.
    refusal(TypeError, "input: .* got a buffer of format 'B'", mseloss.loss, Memory(12), X)


@pytest.mark.parametrize(
    ("entries", "exception", "words"),
    [
        ({"shape": ...}, TypeError, r"\['shape'\] to be a tuple .* got NoneType"),
        ({"shape": [3, 4]}, TypeError, r"\['shape'\] to be a tuple .* got list"),
        ({"shape": (3, 4.0)}, TypeError, r"integers in .*\['shape'\], got float"),
        ({"shape": (3, 2**70)}, TypeError, r"integers in .*\['shape'\], got a larger one"),
        ({"shape": (1,) * 65}, TypeError, "at most 64 integers"),
        ({"shape": (3, -4)}, ValueError, "extents of at least 0, got -4"),
        ({"shape": (2**40, 2**40)}, ValueError, "inside the address space"),
        ({"typestr": ...}, TypeError, r"\['typestr'\] of another type"),
        ({"typestr": b"<f4"}, TypeError, r"\['typestr'\] of another type"),
        ({"typestr": "<i4"}, TypeError, r"\['typestr'\] <i4"),
        ({"typestr": ">f4"}, TypeError, r"\['typestr'\] >f4"),
        ({"typestr": "<V2"}, TypeError, r"\['typestr'\] <V2"),
        ({"typestr": ""}, TypeError, r"\['typestr'\] "),
        ({"typestr": "\ud800"}, TypeError, r"\['typestr'\] "),
        ({"strides": (16,)}, ValueError, "expected 2 strides .* got 1"),
        ({"strides": (16, 4, 4)}, ValueError, "expected 2 strides .* got 3"),
        ({"strides": (16, 3)}, ValueError, "strides of whole elements"),
        ({"strides": (2**62, 4)}, ValueError, "inside the address space"),
        ({"strides": [16, 4]}, TypeError, r"\['strides'\] to be a tuple"),
        ({"data": (0, False)}, ValueError, "got a null pointer"),
        ({"data": (X.ctypes.data,)}, TypeError, "another tuple"),
        ({"data": ("address", False)}, TypeError, "another tuple"),
        ({"data": (2**70, False)}, TypeError, "another tuple"),
        ({"data": (2**64 - 8, False)}, ValueError, "inside the address space"),
        ({"data": 7}, TypeError, "an address or a buffer .* got int"),
        ({"data": X.tobytes()[:47]}, ValueError, "inside their buffer of 47 bytes"),
        ({"data": X.tobytes(), "offset": 1}, ValueError, "inside their buffer of 48 bytes"),
        ({"data": X.tobytes(), "offset": -4}, ValueError, "to be an integer of at least 0"),
        ({"data": X.tobytes(), "offset": "4"}, ValueError, "to be an integer of at least 0"),
        ({"data": X.tobytes(), "offset": 2**63}, ValueError, "to be an integer of at least 0"),
        ({"data": X.tobytes(), "strides": (-16, 4)}, ValueError, "inside their buffer"),
        ({"data": X.tobytes(), "strides": (20, 4)}, ValueError, "inside their buffer"),
        ({"mask": X}, TypeError, "without a mask"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_interfaces_that_cannot_be_right(entries, exception, words):
    refusal(exception, f"^input: .*{words}", mseloss.grad, 1.0, Interface(X, **entries), Y)
    refusal(exception, f"^target: .*{words}", mseloss.loss, Y, Interface(X, **entries))


def test_an_interface_that_is_no_dict():
    class Odd:
        __array_interface__ = 3

    refusal(TypeError, "input: .* to be a dict, got int", mseloss.loss, Odd(), X)


def test_an_interface_that_is_read_only_is_no_output():
    for out in (Interface(X, data=(X.ctypes.data, True)), Interface(X, data=X.tobytes())):
        refusal(ValueError, "out: expected writable memory", mseloss.grad, 1.0, X, Y, out=out)


# Lists and __array__


def test_lists_are_read_as_numpy_reads_them():
    assert mseloss.loss([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], "sum") == np.float64(5)
    assert mseloss.loss([1, 2, 3], (1, 1, 1), "sum") == 5
    assert mseloss.loss([[1, 2], [3, 4]], [1, 1], "none").tolist() == [[0, 1], [4, 9]]
    assert mseloss.loss([np.float32(3)], [np.float32(1)]).dtype == np.float32
    assert mseloss.loss(X, Y.tolist()).dtype == np.float64
    assert mseloss.grad(1.0, X.tolist(), Y.tolist()).shape == X.shape
    assert mseloss.grad([1.0, 2.0], [3.0, 3.0], [1.0, 1.0], "sum").tolist() == [4, 8]
    assert np.isnan(mseloss.loss([], []))
    total = mseloss.PartialSum()
    total.add([1, 2], [0, 0])
    assert total.finish("sum", "float64") == 5


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2], [3]], "list: setting an array element with a sequence"),
        (["a"], "got <U1"),
        ([None], "got object"),
        ([1j], "got complex128"),
        ([10**400], "got object"),
        (range(3), "got range"),
        ({1.0}, "got set"),
        (np.float32, "got type"),
        (np.arange(3), "got int64"),
        (WithArray(np.arange(3)), "got int64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_array(value, words):
    refusal(TypeError, f"^input: .*{words}", mseloss.loss, value, X)
    refusal(TypeError, f"^target: .*{words}", mseloss.loss, X, value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_objects_with_only_an_array_method(dtype):
    x, y = normal(1, (3, 4), dtype), normal(2, (3, 4), dtype)
    result = mseloss.grad(1.0, WithArray(x), WithArray(y))
    assert isinstance(result, np.ndarray)
    assert same_bits(result, reference.grad(1.0, x, y))
    assert same_bits(mseloss.grad(1.0, x, WithArray(y)), reference.grad(1.0, x, y))


@pytest.mark.parametrize("out", [[0.0], (0.0,), WithArray(np.zeros(1))], ids=["list", "tuple", ""])
def test_copies_are_no_outputs(out):
    x = np.ones(1)
    refusal(
        TypeError, "out: expected an array that can be written", mseloss.grad, 1.0, x, x, out=out
    )


def test_pandas():
    pandas = pytest.importorskip("pandas")
    x, y = pandas.Series(X[0]), pandas.Series(Y[0])
    assert same_bits(mseloss.grad(1.0, x, y), reference.grad(1.0, X[0], Y[0]))
    assert same_bits(mseloss.loss(x, Y[0]), reference.loss(X[0], Y[0]))
    frame = pandas.DataFrame(X)
    assert same_bits(mseloss.grad(1.0, frame, Y), EXPECTED)
    refusal(TypeError, "input: .* got int64", mseloss.loss, pandas.Series([1, 2]), y)


def test_masked_arrays_are_refused_where_they_hide_values():
    masked = np.ma.array(X, mask=False)
    assert same_bits(mseloss.grad(1.0, masked, Y), EXPECTED)
    masked[1, 2] = np.ma.masked
    refusal(TypeError, "input: expected values without a mask", mseloss.grad, 1.0, masked, Y)
    refusal(TypeError, "out: expected values without a mask", mseloss.grad, 1.0, X, Y, out=masked)
    subclass = type("Subclass", (np.ndarray,), {})
    assert same_bits(mseloss.grad(1.0, X.view(subclass), Y), EXPECTED)


# Exceptions of the producer

METHODS = ["__dlpack__", "__array__", "__array_interface__", "is_neg"]


def raising(method, error):
    def fail(self, *arguments, **options):
        raise error

    members = {method: property(fail) if method == "__array_interface__" else fail}
    if method == "is_neg":
        members["__dlpack__"] = lambda self, **options: X.__dlpack__()
    return type("Producer", (), members)()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), MemoryError("full")], ids=repr
)
def test_interrupts_of_a_producer_pass_unchanged(method, error):
    for call in (
        lambda p: mseloss.loss(p, X),
        lambda p: mseloss.grad(1.0, X, p),
        lambda p: mseloss.grad(p, X, X),
        lambda p: mseloss.PartialSum().add(X, p),
    ):
        with pytest.raises(type(error)) as caught:
            call(raising(method, error))
        assert caught.value is error


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "error",
    [RuntimeError("out of order"), ValueError("out of order\nmore"), BufferError("out of order")],
    ids=lambda e: type(e).__name__,
)
def test_other_exceptions_of_a_producer_become_the_cause(method, error):
    words = "^target: .*Producer: out of order$"
    raised = refusal(TypeError, words, mseloss.loss, X, raising(method, error))
    assert raised.__cause__ is error


def test_an_exception_without_a_message_is_named_by_its_type():
    words = "^input: .*Producer: ZeroDivisionError$"
    refusal(TypeError, words, mseloss.loss, raising("__dlpack__", ZeroDivisionError()), X)


def test_a_producer_that_refuses_dlpack_may_have_another_protocol():
    class Both(Interface):
        def __dlpack__(self, **options):
            raise BufferError("this type is not part of DLPack")

    assert same_bits(mseloss.grad(1.0, Both(X), Y), EXPECTED)


def test_a_deleted_jax_array_is_named():
    jax = pytest.importorskip("jax")
    deleted = jax.numpy.ones(3)
    deleted.delete()
    refusal(TypeError, "^input: .*Array has been deleted", mseloss.loss, deleted, X[0, :3])
    refusal(TypeError, "^target: .*Array has been deleted", mseloss.loss, X[0, :3], deleted)


# Random producers


def grad_or_error(producer, zero):
    """The gradient for `producer` as input, or None and the error, which must name the parameter."""
    try:
        return mseloss.grad(1.0, producer, zero, "sum"), None
    except (TypeError, ValueError) as raised:
        error = raised
    assert str(error).startswith("input: "), error
    assert "\n" not in str(error)
    return None, error


MEMORY = normal(5, 512, np.float64)


@st.composite
def described(draw):
    """A dtype, a shape and element strides within MEMORY, and the array that they describe."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    strides = tuple(draw(st.integers(-20, 20)) for _ in shape)
    memory = MEMORY.view(np.uint8)[: 512 * dtype.itemsize].view(dtype)
    start = memory[256:]
    described = np.lib.stride_tricks.as_strided(
        start, shape, tuple(stride * dtype.itemsize for stride in strides), writeable=False
    )
    return dtype, shape, strides, start, described


ODD = {
    "ndim": st.sampled_from([-1, -(2**31), 65, 2**31 - 1]),
    "strides": st.just(None),
    "shape": st.just(None),
    "lanes": st.sampled_from([0, 2, 65535]),
    "code": st.sampled_from([INT, 1, COMPLEX, 6, 17, 255]),
    "bits": st.sampled_from([0, 1, 4, 8, 128, 255]),
    "device_type": st.sampled_from([-1, 0, 2, 7, 12, 14]),
    "data": st.just(None),
    "byte_offset": st.sampled_from([2**64 - 1, 2**64 - 2**40]),
    "major": st.sampled_from([0, 2, 2**32 - 1]),
    "name": st.sampled_from([b"used_dltensor", b"used_dltensor_versioned", b"", b"x"]),
    "versioned": st.booleans(),
    "flags": st.integers(0, 2**64 - 1),
}


def meaning(fields, memory):
    """The array that the fields of a DLPack producer describe; None if they describe none."""
    versioned = fields["versioned"]
    expected_name = b"dltensor_versioned" if versioned else b"dltensor"
    kinds = {(FLOAT, 32): "f4", (FLOAT, 16): "f2", (FLOAT, 64): "f8", (BFLOAT, 16): "bfloat16"}
    kind = kinds.get((fields["code"], fields["bits"]))
    if (
        (fields["name"] or expected_name) != expected_name
        or (versioned and fields["major"] != 1)
        or fields["lanes"] != 1
        or fields["device_type"] not in (1, 3, 11, 13)
        or kind is None
        or not 0 <= fields["ndim"] <= 8
        or (fields["shape"] is None and fields["ndim"] > 0)
    ):
        return None
    shape = (fields["shape"] or ())[: fields["ndim"]]
    empty = 0 in shape
    if not empty and (fields["data"] is None or fields["byte_offset"]):
        return None
    dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    if empty:
        return np.empty(shape, dtype)
    if fields["strides"] is None:
        return memory[: int(np.prod(shape))].reshape(shape)
    strides = tuple(s * dtype.itemsize for s in fields["strides"][: fields["ndim"]])
    return np.lib.stride_tricks.as_strided(memory, shape, strides)


@given(described(), st.data())
@settings(max_examples=300)
def test_random_dlpack_producers(case, data):
    dtype, shape, strides, memory, _ = case
    fields = {**fields_of(memory), "ndim": len(shape), "shape": shape, "strides": strides}
    fields |= {"lanes": 1, "device_type": 1, "byte_offset": 0, "major": 1, "flags": 0}
    fields |= {"name": None, "versioned": True}
    for field in data.draw(st.sets(st.sampled_from(sorted(ODD)), max_size=2)):
        fields[field] = data.draw(ODD[field], label=field)
    expected = meaning(fields, memory)
    producer = DLPack(memory, **fields)
    zero = np.zeros((), dtype)
    actual, error = grad_or_error(producer, zero)
    assert (error is None) == (expected is not None), error
    if error is None:
        assert same_bits(actual, reference.grad(1.0, expected, zero, "sum"))


@given(described(), st.data())
@settings(max_examples=200)
def test_random_buffers(case, data):
    dtype, shape, strides, memory, described = case
    if dtype.name == "bfloat16":
        return
    fields = {"ndim": len(shape), "shape": shape}
    fields["strides"] = tuple(stride * dtype.itemsize for stride in strides)
    fields["len"] = described.size * dtype.itemsize
    odd = {
        "ndim": st.sampled_from([-1, -(2**31), 65, 2**31 - 1]),
        "itemsize": st.sampled_from([0, -1, 1, 16]),
        "format": st.sampled_from([None, b"", b"B", b">f", b"?", b"ff", b"=", b"Zd", b"O"]),
        "strides": st.just(None),
        "shape": st.just(None),
        "buf": st.just(None),
        "len": st.sampled_from([-1, 0, 1]),
    }
    changed = data.draw(st.sets(st.sampled_from(sorted(odd)), max_size=2))
    for field in changed:
        fields[field] = data.draw(odd[field], label=field)
    valid = not changed & {"ndim", "itemsize", "format"}
    if fields["shape"] is None and valid:
        shape = (max(fields["len"], 0) // dtype.itemsize,) if len(shape) == 1 else shape
        valid = len(shape) <= 1 and (len(shape) == 0 or fields["len"] >= 0)
    empty = 0 in shape
    if not empty:
        needed = int(np.prod(shape)) * dtype.itemsize
        valid = valid and "buf" not in changed and fields["len"] >= needed
    if valid:
        described = np.empty(shape, dtype) if empty else described
        if not empty and fields["strides"] is None:
            described = memory[: int(np.prod(shape))].reshape(shape)
    exporter = BufferExporter(memory, **fields)
    zero = np.zeros((), dtype)
    actual, error = grad_or_error(exporter, zero)
    assert (error is None) == valid, error
    if error is None:
        assert same_bits(actual, reference.grad(1.0, described, zero, "sum"))


@given(described(), st.data())
@settings(max_examples=200)
def test_random_interfaces(case, data):
    dtype, shape, strides, memory, described = case
    if dtype.name == "bfloat16":
        return
    entries = {
        "shape": shape,
        "strides": tuple(stride * dtype.itemsize for stride in strides),
        "typestr": dtype.str,
        "data": (memory.ctypes.data, False),
    }
    odd = {
        "shape": st.sampled_from([..., None, 3, [1], ("1",), (1.5,), (-1,), (2**64,), (1,) * 70]),
        "strides": st.sampled_from([4, "4", [4], (1,) * 9, (2**64,) * len(shape) or 4]),
        "typestr": st.sampled_from(
            [..., None, 4, "", "f", "|f4", "<f3", ">f8", "<c8", "<V2", "\x00"]
        ),
        "data": st.sampled_from([(), (0,), (None, False), (-1, False), (2**64, True), 5, "text"]),
        "mask": st.sampled_from([True, memory]),
    }
    changed = data.draw(st.sets(st.sampled_from(sorted(odd)), max_size=2))
    for field in changed:
        entries[field] = data.draw(odd[field], label=field)
    zero = np.zeros((), dtype)
    actual, error = grad_or_error(Interface(memory, **entries), zero)
    if error is not None:
        assert changed, error
    else:
        # Memory that the interface says is at -1 is only acceptable if no element lies there.
        assert not changed or (changed == {"data"} and 0 in shape)
        assert same_bits(actual, reference.grad(1.0, described, zero, "sum"))
