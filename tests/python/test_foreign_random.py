"""Random descriptions of memory in each protocol.

A description that is valid gives the same bits as the NumPy array that it describes; any other raises
ValueError or TypeError with a sentence that names the parameter.
"""

import ml_dtypes
import mseloss
import numpy as np
from conftest import DTYPES, normal, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from mseloss import reference
from producers import (
    BFLOAT,
    COMPLEX,
    FLOAT,
    INT,
    BufferExporter,
    DLPack,
    Interface,
    fields_of,
)


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
    "device_type": st.sampled_from([-1, 0, 4, 7, 12, 14]),
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
        "typestr": data.draw(st.sampled_from([dtype.str, dtype.str[1:], "|" + dtype.str[1:]])),
        "data": (memory.ctypes.data, False),
    }
    odd = {
        "shape": st.sampled_from([..., None, 3, [1], ("1",), (1.5,), (-1,), (2**64,), (1,) * 70]),
        "strides": st.sampled_from([4, "4", [4], (1,) * 9, (2**64,) * len(shape) or 4]),
        "typestr": st.sampled_from([..., None, 4, "", "f", "<f3", ">f8", "<c8", "<V2", "\x00"]),
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
