"""Arrays in device memory, on the model: run by test_cuda.py with MSELOSS_DEVICE=cuda-model.

The device memory of the model is that of the host, so arrays of NumPy stand for device arrays: classes that
offer only the protocols of device arrays.
"""

import itertools

import ml_dtypes
import mseloss
import numpy as np
import pytest
from mseloss import _device, reference

DTYPES = [np.float32, np.float16, np.float64]


class Interface:
    """Has __cuda_array_interface__ and a library that creates arrays, as CuPy's have."""

    def __init__(self, array, stream=None, read_only=False):
        self.host, self.stream, self.read_only = array, stream, read_only
        self.dtype, self.shape = array.dtype, array.shape

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.host.shape,
            "typestr": self.host.dtype.str,
            "data": (self.host.ctypes.data, self.read_only),
            "strides": self.host.strides,
            "version": 3,
            "stream": self.stream,
        }

    def __array_namespace__(self):
        return Library

    def fill(self, value):
        self.host.fill(value)


class Bare:
    """Has __cuda_array_interface__ and no library, as Numba's arrays."""

    def __init__(self, array, stream=None):
        self.host = array
        self.__cuda_array_interface__ = Interface(array, stream).__cuda_array_interface__


class Library:
    float32, float16, float64 = np.float32, np.float16, np.float64

    @staticmethod
    def empty(shape, dtype):
        return Interface(np.full(shape, np.nan, dtype))


class Exporter:
    """Has DLPack with a device of type 2, and records the streams that it is told."""

    def __init__(self, array, read_only=False, copied=False):
        self.host, self.streams, self.read_only, self.copied = array, [], read_only, copied

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream=None, max_version=None):
        self.streams.append(stream)
        return Capsule(self.host, max_version, self.read_only | self.copied << 1).capsule

    def __array_namespace__(self):
        return Library


class Capsule:
    """A DLPack capsule that says device type 2, made from NumPy's."""

    def __init__(self, array, max_version=None, flags=0):
        import ctypes

        self.capsule = array.__dlpack__(max_version=max_version)
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        if max_version is None:
            tensor = get(self.capsule, b"dltensor")
        else:  # version, context, deleter, flags, tensor
            address = get(self.capsule, b"dltensor_versioned")
            ctypes.c_uint64.from_address(address + 24).value = flags
            tensor = address + 32
        ctypes.c_int32.from_address(tensor + 8).value = 2  # DLTensor::device::type


def test_info_names_the_model():
    assert mseloss.info()["device"] == "cuda-model"


def host(array):
    return array.host


def arrays(dtype, *shapes):
    random = np.random.default_rng(3)
    return [np.asarray(random.standard_normal(shape)).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_an_interface_gives_the_bits_of_the_reference(dtype, reduction):
    x, y = arrays(dtype, (40, 30), (40, 30))
    y = np.asfortranarray(y)
    dx, dy = Interface(x), Interface(y)
    expected = reference.loss(x, y, reduction)
    assert host(mseloss.loss(dx, dy, reduction)).tobytes() == np.asarray(expected).tobytes()
    gradient = mseloss.grad(2.0, dx, dy, reduction)
    assert isinstance(gradient, Interface)
    assert host(gradient).tobytes() == reference.grad(2.0, x, y, reduction).tobytes()
    value, gradient = mseloss.loss_and_grad(dx, dy, reduction)
    assert host(value).tobytes() == np.asarray(expected).tobytes()
    assert mseloss.compare(host(gradient), reference.grad(1.0, x, y, reduction)).ok


@pytest.mark.parametrize(
    ("axis", "keepdims"), list(itertools.product([0, 1, -1, (0, 2)], [False, True]))
)
def test_axes_weights_and_masks(axis, keepdims):
    x, y, w = arrays(np.float32, (5, 6, 7), (6, 7), (5, 6, 7))
    mask = w > 0
    for weight in (None, w, mask):
        given = None if weight is None else Interface(weight)
        expected = mseloss.loss(x, y, weight=weight, axis=axis, keepdims=keepdims)
        result = mseloss.loss(
            Interface(x), Interface(y), weight=given, axis=axis, keepdims=keepdims
        )
        assert host(result).shape == np.shape(expected)
        assert host(result).tobytes() == np.asarray(expected).tobytes()
        value, gradient = mseloss.loss_and_grad(Interface(x), Interface(y), weight=given, axis=axis)
        expected = mseloss.loss_and_grad(x, y, weight=weight, axis=axis)
        assert host(value).tobytes() == np.asarray(expected[0]).tobytes()
        assert host(gradient).tobytes() == expected[1].tobytes()


def test_out_is_written_and_returned():
    x, y = arrays(np.float32, 100, 100)
    out = Interface(np.zeros(100, np.float32))
    assert mseloss.grad(1.0, Interface(x), Interface(y), out=out) is out
    assert out.host.tobytes() == reference.grad(1.0, x, y).tobytes()
    frozen = Interface(np.zeros(100, np.float32), read_only=True)
    with pytest.raises(ValueError, match="out: expected memory to write to"):
        mseloss.grad(1.0, Interface(x), Interface(y), out=frozen)


def test_a_dlpack_producer_is_told_the_stream_of_the_call():
    x, y = arrays(np.float32, 64, 64)
    dx, dy = Exporter(x), Exporter(y)
    assert host(mseloss.loss(dx, dy)).tobytes() == np.asarray(reference.loss(x, y)).tobytes()
    assert dx.streams[-1] == _device.LEGACY_STREAM
    assert dy.streams[-1] == _device.LEGACY_STREAM
    with_stream = Interface(x, stream=7)
    mseloss.loss(with_stream, dy)
    assert dy.streams[-1] == 7


def test_arrays_without_a_library_need_arrays_for_results():
    x, y = arrays(np.float32, 20, 20)
    dx, dy, one = Bare(x), Bare(y), Bare(np.ones((), np.float32))
    out, value = Bare(np.zeros(20, np.float32)), Bare(np.zeros((), np.float32))
    assert mseloss.grad(one, dx, dy, out=out) is out
    assert out.host.tobytes() == reference.grad(1.0, x, y).tobytes()
    assert mseloss.loss(dx, dy, out=value) is value
    assert value.host.tobytes() == np.asarray(reference.loss(x, y)).tobytes()
    with pytest.raises(TypeError, match="grad_output: expected an array, as Bare has no library"):
        mseloss.grad(1.0, dx, dy, out=out)
    with pytest.raises(TypeError, match="out: expected an array, as Bare has no library"):
        mseloss.grad(one, dx, dy)
    with pytest.raises(TypeError, match="loss: expected an array, as Bare has no library"):
        mseloss.loss_and_grad(dx, dy, grad_output=one, out=out)


def test_jax_arrays_are_rejected():
    x, y = arrays(np.float32, 20, 20)
    immutable = type("ArrayImpl", (Exporter,), {"__module__": "jaxlib._jax"})
    out = immutable(np.zeros(20, np.float32))
    with pytest.raises(TypeError, match="out: expected an array of another library than JAX"):
        mseloss.grad(1.0, Interface(x), Interface(y), out=out)
    with pytest.raises(TypeError, match="input: expected an array of another library than JAX"):
        mseloss.loss(immutable(x), immutable(y))
    assert not out.host.any()


def test_a_dlpack_out_that_is_read_only_or_a_copy_is_rejected():
    x, y = arrays(np.float32, 20, 20)
    out = Exporter(np.zeros(20, np.float32), read_only=True)
    with pytest.raises(ValueError, match="out: expected memory to write to"):
        mseloss.grad(1.0, Interface(x), Interface(y), out=out)
    copy = Exporter(np.zeros(20, np.float32), copied=True)
    with pytest.raises(TypeError, match="out: expected an array to write to, got one that exports"):
        mseloss.grad(1.0, Interface(x), Interface(y), out=copy)
    assert mseloss.grad(1.0, copy, copy).host.tobytes() == np.zeros(20, np.float32).tobytes()
    assert not out.host.any()
    out.read_only = False
    assert mseloss.grad(1.0, Exporter(x, read_only=True), Interface(y), out=out) is out
    assert out.host.tobytes() == reference.grad(1.0, x, y).tobytes()


def test_the_host_waits_for_the_stream_of_an_interface(monkeypatch):
    x, y = arrays(np.float32, 20, 20)
    waits = []
    monkeypatch.setattr(_device._core, "_device_wait", waits.append)
    mseloss.loss(Interface(x, stream=5), Interface(y, stream=5))
    assert waits == []
    mseloss.loss(Interface(x, stream=5), Interface(y, stream=6))
    assert waits == [6]


def test_errors_name_the_parameter():
    x, y = arrays(np.float32, 10, 10)
    dx, dy = Interface(x), Interface(y)
    with pytest.raises(TypeError, match="target: expected memory of a CUDA device"):
        mseloss.loss(dx, y)
    with pytest.raises(ValueError, match="reduction"):
        mseloss.loss(dx, dy, "average")
    with pytest.raises(ValueError, match="target"):
        mseloss.loss(dx, Interface(y[:7]))
    with pytest.raises(ValueError, match="axis"):
        mseloss.loss(dx, dy, axis=3)
    with pytest.raises(TypeError, match="input: expected float32"):
        mseloss.loss(Interface(np.arange(10)), dy)


def test_bfloat16_has_no_typestr():
    (x, y) = (a.astype(ml_dtypes.bfloat16) for a in arrays(np.float32, 33, 33))
    assert (
        host(mseloss.loss(Interface(x), Interface(y), "sum")).tobytes()
        == np.asarray(mseloss.loss(x, y, "sum")).tobytes()
    )


def test_partial_sums_of_device_arrays():
    x, y, w = arrays(np.float32, (50, 20), (50, 20), (50, 20))
    dx, dy = Interface(x), Interface(y)
    mask = w > 0
    for weight in (None, w, mask):
        given = None if weight is None else Interface(weight)
        for exact in (False, True):
            total, divisor = mseloss.PartialSum(), mseloss.PartialSum()
            for rows in (slice(0, 17), slice(17, 50)):
                part = None if weight is None else Interface(weight[rows])
                total.add(Interface(x[rows]), Interface(y[rows]), weight=part, exact=exact)
                divisor.add_divisor(
                    Interface(x[rows]), Interface(y[rows]), weight=part, exact=exact
                )
            assert total.exact == exact
            assert total.count == (x.size if weight is not mask else mask.sum())
            for reduction in ("sum", "mean"):
                value = total.finish(reduction, "float32")
                expected = np.asarray(reference.loss(x, y, reduction, weight=weight))
                assert (value is None and not exact) or value.tobytes() == expected.tobytes()
            scale = divisor.scale("mean", "float32")
            total = mseloss.PartialSum()
            gradient = total.add_with_grad(dx, dy, scale, weight=given)
            expected = reference.loss_and_grad(x, y, weight=weight)[1]
            assert gradient.host.tobytes() == expected.tobytes()
            digits = mseloss.PartialSum.from_digits(total.digits("float32"))
            assert digits.count == total.count
