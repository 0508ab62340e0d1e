"""Arrays that come through DLPack: every field is checked before it is used."""

import mseloss
import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from foreign import EXPECTED, X, Y, read, refusal
from producers import (
    BFLOAT,
    COMPLEX,
    INT,
    IS_COPIED,
    READ_ONLY,
    DLPack,
)


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
        ({"byte_offset": 2**63}, ValueError, "inside the address space"),
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
        ({"device_type": 7}, TypeError, "memory of this processor, .* device type 7"),
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
    refusal(exception, f"^out: .*{words}", mseloss.grad, 1.0, Y, Y, out=producer)


def test_memory_of_a_cuda_device_and_of_the_host_do_not_mix():
    device = DLPack(X, device_type=2)
    words = "expected memory of a CUDA device, as other operands of this call have, got ndarray"
    refusal(TypeError, f"^target: {words}", mseloss.loss, device, Y)
    refusal(TypeError, f"^target: {words}", mseloss.grad, 1.0, device, Y)
    refusal(TypeError, f"^input: {words}", mseloss.grad, device, Y, Y)
    refusal(TypeError, f"^target: {words}", mseloss.PartialSum().add, device, Y)
    refusal(TypeError, f"^input: {words}", mseloss.PartialSum().add, Y, device)


def test_functions_of_host_memory_name_an_operand_on_a_device():
    device = DLPack(X, device_type=2)
    words = "expected memory of this processor, got that of a CUDA device"
    refusal(TypeError, f"^actual: {words}", mseloss.compare, device, Y)
    refusal(TypeError, f"^grad_output: {words}", mseloss.reference.grad, device, Y, Y)


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
