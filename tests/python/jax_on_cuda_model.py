"""mseloss.jax with the CUDA handlers that jax_stand_in.py registers; run by test_cuda.py."""

import jax
import jax.numpy as jnp
import jax_stand_in as xla
import mseloss.jax as face
import numpy as np
import pytest
from conftest import normal, same_bits
from jax.sharding import PartitionSpec
from mseloss import reference

jax.config.update("jax_enable_x64", True)
SHAPE = (6, 5, 4)
OPTIONS = [{}, {"axis": 0}, {"axis": (0, 2), "keepdims": True}]


@pytest.fixture(autouse=True)
def scratch_memory_is_freed():
    xla.CALLS.clear()
    yield
    assert not xla.LIVE


@pytest.mark.parametrize("kind", ["none", "weight", "mask"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("how", ["mean", "sum"])
def test_the_step_has_the_bits_of_the_reference(how, options, kind, dtype):
    x, y, w = (normal(i, SHAPE, dtype) for i in (1, 2, 3))
    weight = {"none": None, "weight": w, "mask": w > 0}[kind]

    @jax.jit
    def step(x, y, factor):
        value, back = jax.vjp(lambda x: face.mse_loss(x, y, how, weight=weight, **options), x)
        return value, back(jnp.full_like(value, factor))[0]

    for factor in (1, 3):
        before = len(xla.STREAMS)
        value, gradient = step(x, y, np.asarray(factor, dtype))
        assert len(xla.STREAMS) - before == len(xla.CALLS) > 0
        assert set(xla.CALLS) == {"loss_and_grad", "finish_grad"}
        xla.CALLS.clear()
        kept = {name: option for name, option in options.items() if name == "axis"}
        upstream = np.full(np.shape(reference.loss(x, y, how, **kept)), factor, dtype)
        expected = reference.loss_and_grad(x, y, how, weight=weight, grad_output=upstream, **kept)
        assert same_bits(np.asarray(value).reshape(upstream.shape), np.asarray(expected[0]))
        assert same_bits(gradient, expected[1])


def test_elementwise_losses(dtype):
    x, y = normal(1, SHAPE, dtype), normal(2, SHAPE[1:], dtype)
    value, back = jax.vjp(lambda x: face.mse_loss(x, y, "none"), x)
    assert same_bits(value, reference.loss(x, y, "none"))
    g = normal(3, SHAPE, dtype)
    assert same_bits(back(g)[0], reference.loss_and_grad(x, y, "none", grad_output=g)[1])
    assert set(xla.CALLS) == {"loss", "grad"}


def test_outside_jit_nothing_looks_at_the_cotangent_of_a_device(monkeypatch):
    from mseloss.jax import tangent

    class OnDevice:
        platform = "gpu"

    one = jnp.ones(())
    assert tangent._is_one(one)
    assert not tangent._is_one(jnp.zeros(()))
    assert tangent._is_one(np.float32(1))
    monkeypatch.setattr(type(one), "devices", lambda array: {OnDevice()})
    monkeypatch.setattr(type(one), "__eq__", lambda array, other: pytest.fail("waits for a device"))
    assert not tangent._is_one(one)


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_empty_slices(how):
    x = np.zeros((3, 0), np.float32)
    value = face.mse_loss(x, x, how, axis=1)
    assert same_bits(value, reference.loss(x, x, how, axis=1))
    assert jax.grad(lambda x: face.mse_loss(x, x + 1, how))(x).shape == (3, 0)


def test_ties_are_decided_by_the_exact_sweep():
    x, y = np.ones(2049, np.float16), np.zeros((), np.float16)
    assert same_bits(face.mse_loss(x, y, "sum"), reference.loss(x, y, "sum"))


def test_vmap_and_second_derivatives():
    x, y = normal(1, (7, 5), np.float64), normal(2, (7, 5), np.float64)
    values = jax.vmap(face.mse_loss)(x, y)
    assert same_bits(values, reference.loss(x, y, axis=1))
    hessian = jax.hessian(face.mse_loss)(x[0], y[0])
    np.testing.assert_allclose(hessian, 0.4 * np.eye(5))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_shards_exchange_digits(weighted, ties):
    x, y, w = (normal(i, (40, 3)) for i in (1, 2, 3))
    if ties:
        x, y, w = np.ones((683, 3), np.float16), np.zeros((683, 3), np.float16), None
    weight = np.abs(w) if weighted and not ties else None
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    def loss(x, y):
        return face.mse_loss(x, y, "sum" if ties else "mean", weight=weight, axis_name="d")

    spec = PartitionSpec("d")
    sharded = jax.shard_map(loss, mesh=mesh, in_specs=(spec, spec), out_specs=PartitionSpec())
    value, gradient = jax.value_and_grad(sharded)(x, y)
    expected = reference.loss_and_grad(x, y, "sum" if ties else "mean", weight=weight)
    assert same_bits(value, np.asarray(expected[0]))
    assert same_bits(gradient, expected[1])
    assert {"partial", "finish"} <= set(xla.CALLS)


def test_more_dimensions_than_the_kernels_have_are_refused_in_a_sum():
    x, y = normal(1, (2, 1) * 6), normal(2, (1, 2) * 6)
    with pytest.raises(jax.errors.JaxRuntimeError, match="expected at most 8 dimensions"):
        face.mse_loss(x, y)
