"""Arrays that come through __array_interface__: every entry is checked before it is used."""

import mseloss
import numpy as np
import pytest
from conftest import normal, same_bits
from foreign import FORMATS, X, Y, read, refusal
from producers import (
    Interface,
)


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
        ({"typestr": 4}, TypeError, r"\['typestr'\] of another type"),
        ({"typestr": b">f4"}, TypeError, r"\['typestr'\] of another type"),
        ({"typestr": "|>f4"}, TypeError, r"\['typestr'\] \|>f4"),
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


def test_numbers_and_types_as_numpy_reads_them():
    """Whatever has __index__ is an integer; a typestr may lack the byte order, and may be bytes."""
    i = np.int64
    for entries in (
        {"shape": (i(3), np.uint8(4))},
        {"strides": (i(16), i(4))},
        {"typestr": "f4"},
        {"typestr": "|f4"},
        {"typestr": b"<f4"},
    ):
        producer = Interface(X, **entries)
        assert same_bits(np.asarray(producer), X)
        assert same_bits(read(producer), X)
    assert same_bits(read(Interface(X, data=(np.uintp(X.ctypes.data), i(0)))), X)
    assert same_bits(read(Interface(X, data=X.tobytes(), offset=i(16), shape=(2, 4))), X[1:])
    weight = np.array([True, False, True, True])
    for typestr in ("|b1", "b1", "<b1", ">b1"):
        given = Interface(weight, typestr=typestr)
        assert mseloss.loss(X, Y, weight=given) == mseloss.loss(X, Y, weight=weight)


def test_an_index_method_that_raises():
    class Odd:
        def __init__(self, raised):
            self.raised = raised

        def __index__(self):
            raise self.raised

    words = r"^input: expected 64-bit integers in .*\['shape'\], got Odd"
    refusal(TypeError, words, read, Interface(X, shape=(3, Odd(RuntimeError("no")))))
    with pytest.raises(KeyboardInterrupt):
        read(Interface(X, shape=(3, Odd(KeyboardInterrupt()))))


def test_an_interface_that_is_no_dict():
    class Odd:
        __array_interface__ = 3

    refusal(TypeError, "input: .* to be a dict, got int", mseloss.loss, Odd(), X)


def test_an_interface_that_is_read_only_is_no_output():
    for out in (Interface(X, data=(X.ctypes.data, True)), Interface(X, data=X.tobytes())):
        refusal(ValueError, "out: expected writable memory", mseloss.grad, 1.0, X, Y, out=out)
