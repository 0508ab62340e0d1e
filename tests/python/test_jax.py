"""mseloss.jax: the reference's bits under grad, jit, vmap and shard_map."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import DTYPES, normal, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from mseloss import reference
from strategies import broadcast_shapes, layouts

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402
import mseloss.jax as face  # noqa: E402


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def sums_of(reduction):
    return lambda x, y: face.mse_loss(x, y, reduction).sum()


def test_bits_of_the_reference(dtype, reduction):
    x, y = normal(1, (33, 65), dtype), normal(2, (33, 65), dtype)
    for call in (face.mse_loss, jax.jit(face.mse_loss, static_argnums=2)):
        assert same_bits(call(x, y, reduction), np.asarray(reference.loss(x, y, reduction)))
    for transform in (jax.value_and_grad, lambda f, n: jax.jit(jax.value_and_grad(f, n))):
        _, (gx, gy) = transform(sums_of(reduction), (0, 1))(x, y)
        expected = reference.loss_and_grad(x, y, reduction)[1]
        assert same_bits(gx, expected)
        assert same_bits(gy, -expected)


@given(st.data())
@settings(max_examples=12)
def test_any_shapes_and_values(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    (shape,) = data.draw(broadcast_shapes(1))
    x, y = (np.array(data.draw(layouts(shape, dtype))) for _ in range(2))
    how = data.draw(st.sampled_from(["mean", "sum"]))
    value, gradient = reference.loss_and_grad(x, y, how)
    with jax.enable_x64(True):
        loss, back = jax.vjp(lambda a, b: face.mse_loss(a, b, how), x, y)
        assert same_bits(loss, np.asarray(value))
        assert same_bits(back(jnp.ones((), dtype))[0], gradient)


@pytest.mark.parametrize("scale", [0.5, -3.0, 2.0**15])
def test_another_cotangent_starts_from_the_operands(dtype, scale):
    x, y = normal(1, 4096, dtype), normal(2, 4096, dtype)
    _, back = jax.vjp(face.mse_loss, x, y)
    g = np.asarray(scale, dtype)
    assert same_bits(back(g)[0], reference.loss_and_grad(x, y, grad_output=g)[1])
    tiny = np.full(
        4096, 2.0**-14, np.float16
    )  # unscaled gradient: 2^-25, which float16 rounds to 0
    gradient = jax.jit(jax.grad(lambda a, s: face.mse_loss(a, np.float16(0)) * s))(
        tiny, np.float16(2**15)
    )
    assert (gradient == np.float16(2.0**-10)).all()


@pytest.mark.parametrize("shapes", [((3, 1), (4,)), ((), (5,)), ((2, 3), (1, 1, 1)), ((0,), (1,))])
def test_broadcasting_reduces_each_gradient(shapes, reduction):
    x, y = (normal(i, s, np.float64) for i, s in enumerate(shapes))
    if 0 in shapes[0]:
        assert face.mse_loss(x, y, "sum") == 0
        assert np.isnan(face.mse_loss(x, y))
        return

    def plain(a, b):
        square = (a - b) ** 2
        return square.mean() if reduction == "mean" else square.sum()

    got = jax.grad(sums_of(reduction), (0, 1))(x, y)
    for ours, theirs in zip(got, jax.grad(plain, (0, 1))(x, y), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert face.mse_loss(x, y, "none").shape == np.broadcast_shapes(*shapes)


def test_dtypes_promote_and_gradients_are_cast_back():
    x, y = normal(1, 10, np.float16), jnp.asarray(normal(2, 10), jnp.bfloat16)
    value, (gx, gy) = jax.value_and_grad(face.mse_loss, (0, 1))(x, y)
    assert (value.dtype, gx.dtype, gy.dtype) == (np.float32, np.float16, jnp.bfloat16)
    assert same_bits(value, np.asarray(reference.loss(x, np.asarray(y))))
    assert face.mse_loss(jnp.arange(3), jnp.float32([1, 2, 3])) == 1


def test_vmap_has_the_bits_of_a_loop(dtype, reduction):
    x, y = normal(1, (5, 7, 3), dtype), normal(2, (5, 7, 3), dtype)
    for axes in ((0, 0), (1, 0), (None, 0), (0, None)):
        a = x if axes[0] is not None else x[0]
        b = y if axes[1] is not None else y[0]
        if axes == (1, 0):
            a = np.ascontiguousarray(x.swapaxes(0, 1))
        rows = [
            (x[i] if axes[0] is not None else a, y[i] if axes[1] is not None else b)
            for i in range(5)
        ]
        value = jax.vmap(lambda p, q: face.mse_loss(p, q, reduction), axes)(a, b)
        gradient = jax.jit(jax.vmap(jax.grad(sums_of(reduction)), axes))(a, b)
        for i, (p, q) in enumerate(rows):
            assert same_bits(value[i], np.asarray(reference.loss(p, q, reduction)))
            assert same_bits(gradient[i], reference.loss_and_grad(p, q, reduction)[1])


def test_jacobian_and_vmap_of_broadcast_operands():
    x, y = normal(1, (4, 3), np.float64), normal(2, 3, np.float64)
    none = jax.jacrev(lambda a: face.mse_loss(a, y, "none"))(x)
    plain = jax.jacrev(lambda a: (a - y) ** 2)(x)
    np.testing.assert_allclose(none, plain, rtol=1e-12)
    mapped = jax.vmap(lambda a: face.mse_loss(a, y[:, None], "none"))(x)
    np.testing.assert_array_equal(mapped, (x[:, None, :] - y[:, None]) ** 2)


def test_training_step_sweeps_once():
    text = jax.jit(jax.value_and_grad(face.mse_loss)).lower(np.ones(8), np.ones(8)).as_text()
    assert text.count("@mseloss_loss_and_grad") == 1
    assert "@mseloss_loss(" not in text
    assert (
        "@mseloss_loss_and_grad"
        not in jax.jit(face.mse_loss).lower(np.ones(8), np.ones(8)).as_text()
    )


def flags_of_memory_at(address):
    """The kernel's flags of the mapping that contains `address`."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        field, *rest = line.split()
        if "-" in field and not field.endswith(":"):
            first, last = (int(end, 16) for end in field.split("-"))
            inside = first <= address < last
        elif inside and field == "VmFlags:":
            return rest
    raise AssertionError("no such mapping")


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages"
)
def test_large_results_are_put_on_huge_pages():
    x = jnp.ones(1 << 24, jnp.float32)
    gradient = jax.jit(jax.grad(face.mse_loss))(x, x + 1).block_until_ready()
    middle = gradient.unsafe_buffer_pointer() + gradient.nbytes // 2
    assert "hg" in flags_of_memory_at(middle)  # MADV_HUGEPAGE
    small = np.empty(1000)
    assert "hg" not in flags_of_memory_at(small.ctypes.data)


def test_refusals():
    x = np.ones(3)
    with pytest.raises(ValueError, match="reduction: expected 'none', 'mean' or 'sum', got 'most'"):
        face.mse_loss(x, x, "most")
    with pytest.raises(TypeError, match="got complex"):
        face.mse_loss(x + 1j, x)
    with pytest.raises(ValueError, match=r"[Ii]ncompatible shapes"):
        face.mse_loss(x, np.ones(4))
    with pytest.raises(ValueError, match="at most 8 dimensions, got 9"):
        face.mse_loss(np.ones((1,) * 9), x)
    with pytest.raises(ValueError, match="axis_name: "):
        face.mse_loss(x, x, "none", axis_name="d")


def test_four_devices_have_the_bits_of_one():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    program = Path(__file__).with_name("jax_devices.py")
    done = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["devices", "4", "cases", str(4 * 2 * 4)]
