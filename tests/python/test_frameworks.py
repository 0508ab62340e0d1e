"""PyTorch and JAX arrays in mseloss.grad and loss: read without a copy, results of the same kind."""

import ctypes

import mseloss
import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from mseloss import memory, reference

IDS = [d.name for d in DTYPES]


def to_torch(array):
    torch = pytest.importorskip("torch")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_jax(array):
    jax = pytest.importorskip("jax")
    if array.dtype == np.float64:
        pytest.skip("JAX keeps float64 off by default")
    return jax.numpy.asarray(array)


@pytest.mark.parametrize("convert", [to_torch, to_jax], ids=["torch", "jax"])
def test_same_kind_same_bits(convert, dtype, reduction):
    x, y, g = normal(1, (33, 65), dtype), normal(2, 65, dtype), normal(3, (33, 1), dtype)
    a, b, c = convert(x), convert(y), convert(g)
    result = mseloss.grad(c, a, b, reduction)
    assert type(result) is type(a)
    assert result.dtype == a.dtype
    assert same_bits(mseloss._core.asnumpy(result), reference.grad(g, x, y, reduction))
    value, gradient = mseloss.loss_and_grad(a, b, reduction)
    expected_value, expected_gradient = reference.loss_and_grad(x, y, reduction)
    assert type(value) is type(gradient) is type(a)
    assert same_bits(mseloss._core.asnumpy(value), np.asarray(expected_value))
    assert same_bits(mseloss._core.asnumpy(gradient), expected_gradient)


def test_torch_layouts_and_outputs():
    torch = pytest.importorskip("torch")
    x, y = torch.randn(40, 50), torch.randn(40, 1)
    expected = 2 * (x - y)
    assert torch.equal(mseloss.grad(1.0, x.T, y.T, "sum"), expected.T)
    assert torch.equal(
        mseloss.grad(1.0, x[::2, ::3], y[::2].expand(20, 17), "sum"), expected[::2, ::3]
    )
    out = torch.empty(40, 50, dtype=torch.float64)
    assert mseloss.grad(1.0, x, y, "sum", out=out) is out
    assert torch.equal(out, expected.double())
    image = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    assert mseloss.grad(1.0, image, image).is_contiguous(memory_format=torch.channels_last)
    assert mseloss.loss(x, y, dtype=torch.float64).dtype == torch.float64


def test_torch_tensors_that_require_grad_are_read():
    torch = pytest.importorskip("torch")
    x = torch.randn(10, requires_grad=True)
    y = torch.nn.Parameter(torch.randn(10))
    result = mseloss.grad(1.0, x, y)
    assert type(result) is torch.Tensor
    assert not result.requires_grad
    assert torch.equal(mseloss.grad(1.0, y, x), -result)


def test_torch_refusals():
    torch = pytest.importorskip("torch")
    x = torch.zeros(3)
    with pytest.raises(TypeError, match=r"input: expected float32, .* got torch.int64"):
        mseloss.grad(1.0, torch.zeros(3, dtype=torch.int64), x)
    with pytest.raises(TypeError, match="input: "):
        mseloss.grad(1.0, torch.zeros(3, device="meta"), x)
    with pytest.raises(TypeError, match="input: "):
        mseloss.grad(1.0, torch.zeros(3).to_sparse(), x)


def test_torch_results_come_from_the_pool():
    torch = pytest.importorskip("torch")
    memory.trim()
    x = torch.ones(1 << 20)
    result = mseloss.grad(1.0, x, -x)
    address = result.data_ptr()
    assert memory.usage()["live_blocks"] == 1
    view = result.view(-1)[5:]
    del result
    assert memory.usage()["live_blocks"] == 1
    del view
    assert memory.usage()["live_blocks"] == 0
    assert mseloss.empty((1 << 20,), torch.float32, like=x).data_ptr() == address


def test_torch_results_survive_backward_threads():
    torch = pytest.importorskip("torch")
    memory.trim()
    leaf = torch.zeros(1 << 20, requires_grad=True)
    weight = mseloss.grad(1.0, torch.ones(1 << 20), torch.zeros(1 << 20), "sum")
    (leaf * weight).sum().backward()
    del weight
    assert (leaf.grad == 2).all()


def test_jax_arrays_are_never_written():
    jax = pytest.importorskip("jax")
    x = jax.numpy.ones(5)
    with pytest.raises(ValueError, match="out: expected writable memory"):
        mseloss.grad(1.0, x, x, out=x)
    memory.trim()
    big = jax.numpy.ones(1 << 20)
    result = mseloss.grad(1.0, big, -big)
    assert (result == 4 / (1 << 20)).all()
    del result
    assert memory.usage()["live_blocks"] == 0


def test_kinds_mix(dtype):
    x, y = normal(1, 100, dtype), normal(2, 100, dtype)
    expected = reference.grad(1.0, x, y)
    assert same_bits(mseloss.grad(1.0, x, to_torch(y)), expected)
    out = np.empty_like(x)
    assert mseloss.grad(1.0, to_torch(x), to_torch(y), out=out) is out
    assert same_bits(out, expected)


class OldProducer:
    """DLPack before 1.0: no max_version, no read-only flag."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, stream=None):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_other_producers_give_numpy():
    x = normal(1, 20)
    result = mseloss.grad(1.0, OldProducer(x[::2]), OldProducer(x[1::2]))
    assert isinstance(result, np.ndarray)
    assert same_bits(result, reference.grad(1.0, x[::2].copy(), x[1::2].copy()))


class Broken:
    def __dlpack__(self, **options):
        raise RuntimeError("out of order")


def test_a_producer_that_fails_is_named():
    x = normal(1, 3)
    with pytest.raises(TypeError, match=r"target: .* Broken: out of order"):
        mseloss.grad(1.0, x, Broken())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_a_producers_interrupt_passes_through(error):
    class Interrupted:
        def __dlpack__(self, **options):
            raise error

    with pytest.raises(error):
        mseloss.loss(Interrupted(), normal(1, 3))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_while_the_dtype_is_named_passes_through(error):
    class Integers:
        def __dlpack__(self, **options):
            return np.arange(3, dtype=np.int32).__dlpack__(**options)

        @property
        def dtype(self):
            raise error

    with pytest.raises(error):
        mseloss.loss(Integers(), normal(1, 3))


def test_a_producer_without_a_capsule_is_named():
    class NotACapsule:
        def __dlpack__(self, **options):
            return 42

    with pytest.raises(
        TypeError, match=r"target: expected a DLPack capsule from __dlpack__, got int"
    ):
        mseloss.loss(normal(1, 3), NotACapsule())


def test_used_capsule_is_named():
    class Used:
        def __dlpack__(self, **options):
            return self.capsule

    used = Used()
    array = normal(1, 3)
    used.capsule = array.__dlpack__()
    np.from_dlpack(
        type("Once", (), {"__dlpack__": used.__dlpack__, "__dlpack_device__": lambda _: (1, 0)})()
    )
    with pytest.raises(TypeError, match=r"input: .* used already"):
        mseloss.loss(used, array)


def test_deleted_jax_array_is_named():
    jax = pytest.importorskip("jax")
    deleted = jax.numpy.ones(3)
    deleted.delete()
    with pytest.raises((TypeError, ValueError, RuntimeError), match=r"input: .*deleted"):
        mseloss.loss(deleted, jax.numpy.ones(3))


def test_ctypes_arrays_have_no_strides():
    x = (ctypes.c_float * 3 * 2)((1, 2, 3), (4, 5, 6))
    expected = reference.grad(1.0, np.asarray(x), np.ones(3, np.float32))
    out = (ctypes.c_float * 3 * 2)()
    assert same_bits(mseloss.grad(1.0, x, np.ones(3, np.float32)), expected)
    assert mseloss.grad(1.0, x, (ctypes.c_float * 3)(1, 1, 1), out=out) is out
    assert same_bits(np.asarray(out), expected)
    assert mseloss.loss(ctypes.c_float(3), np.float32(1)) == 4


def test_integer_grad_output_is_rounded_once():
    x, y = np.ones(1, np.float32), np.zeros(1, np.float32)
    for g in (2**60 + 2**36 + 1, -(2**60) - 2**36 - 1, 2**60 + 2**36, 2**60 + 3 * 2**36 - 1):
        low = abs(g) >> 37 << 37
        rest = abs(g) - low
        up = rest > 2**36 or (rest == 2**36 and (low >> 37) & 1)
        expected = np.float32((low + up * 2**37) * 2) * np.sign(float(g)).astype(np.float32)
        assert mseloss.grad(g, x, y, "sum")[0] == expected, g
    assert mseloss.grad(10**400, x, y) == mseloss.grad(1e39, x, y) == np.inf


def test_lazily_negated_tensor_is_refused_where_the_bit_would_be_lost():
    torch = pytest.importorskip("torch")
    negated = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    assert negated.is_neg()
    zeros = torch.zeros(2)
    for call in (
        lambda: mseloss.grad(1.0, negated, zeros),
        lambda: mseloss.grad(1.0, zeros, negated),
        lambda: mseloss.loss(zeros, zeros, "none", out=negated),
        lambda: mseloss.loss_and_grad(negated, zeros),
    ):
        with pytest.raises(TypeError, match="lazily negated one: call resolve_neg"):
            call()
    resolved = mseloss.grad(1.0, negated.resolve_neg(), zeros, "sum")
    assert resolved.tolist() == [-4, 8]


def test_lazily_negated_tensor_in_the_drop_in_has_pytorchs_value():
    torch = pytest.importorskip("torch")
    import mseloss.torch

    negated = torch.tensor([1 + 2j, 3 - 4j]).conj().imag
    ones = torch.ones(2, requires_grad=True)
    loss = mseloss.torch.mse_loss(ones, negated)
    loss.backward()
    assert loss.item() == 9
    assert ones.grad.tolist() == [3, -3]


def test_refused_tensor_has_a_reason_of_one_line():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="refuses to export") as refusal:
        mseloss.grad(1.0, torch.ones(2, device="meta"), torch.ones(2))
    assert "\n" not in str(refusal.value)
