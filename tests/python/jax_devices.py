"""Run by test_jax.py with four devices: compares a loss under shard_map with the same loss on one device."""

import functools

import jax
import jax.numpy as jnp
import mseloss.jax as face
import numpy as np
from conftest import DTYPES, same_bits
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)


def operands(kind, dtype):
    x = np.random.default_rng(3).standard_normal((64, 48))
    y = np.zeros_like(x)
    if kind == "tie":  # halfway between two values of the dtype: only an exact sum rounds correctly
        half_ulp = {"bfloat16": [2.0**-4], "float16": [2.0**-6] * 2, "float32": [2.0**-12]}
        x[:] = 0
        x[0, 0] = 1
        for row, value in enumerate(half_ulp.get(dtype.name, [2.0**-27] * 2)):
            x[-1 - row, -1] = value
    elif kind == "huge":
        x *= 2.0**12
        y += 1
    elif kind == "special":
        x[40, 3] = np.inf
    return jnp.asarray(x, dtype), jnp.asarray(y, dtype)


cases = 0
for dtype in DTYPES:
    for reduction in ("mean", "sum"):
        for kind in ("normal", "tie", "huge", "special"):
            x, y = operands(kind, dtype)
            whole = functools.partial(face.mse_loss, reduction=reduction)
            for axes, split in ((("a", "b"), P("a", "b")), ("a", P("a"))):
                if axes == "a" and kind != "normal":
                    continue
                part = functools.partial(face.mse_loss, reduction=reduction, axis_name=axes)
                sharded = jax.shard_map(part, mesh=mesh, in_specs=(split, split), out_specs=P())
                results = [
                    jax.jit(jax.value_and_grad(lambda a, b, f=f: 3 * f(a, b), (0, 1)))(x, y)
                    for f in (sharded, whole)
                ]
                for ours, one in zip(*map(jax.tree.leaves, results), strict=True):
                    assert same_bits(ours, one), (dtype, reduction, kind, axes)
                inside = jax.shard_map(
                    jax.grad(part), mesh=mesh, in_specs=(split, split), out_specs=split
                )
                assert same_bits(jax.jit(inside)(x, y), jax.jit(jax.grad(whole))(x, y))
            cases += 1
x, y = operands("normal", np.dtype(np.float32))  # a row of targets replicated on every device
f = jax.shard_map(
    functools.partial(face.mse_loss, axis_name="a"),
    mesh=mesh,
    in_specs=(P("a"), P()),
    out_specs=P(),
)
ours = jax.jit(jax.value_and_grad(f, (0, 1)))(x, x[:1])
one = jax.jit(jax.value_and_grad(face.mse_loss, (0, 1)))(x, x[:1])
assert same_bits(ours[0], one[0])
assert same_bits(ours[1][0], one[1][0])
np.testing.assert_allclose(ours[1][1], one[1][1], rtol=1e-5, atol=1e-8)

# Weights and masks: the bits of one device, and derivatives of second order in every operand.
for dtype in DTYPES:
    x, y = operands("normal", dtype)
    x, y = x[:8, :6], y[:8, :6]
    rng = np.random.default_rng(5)
    for w in (rng.uniform(0.5, 2, (8, 1)).astype(dtype), rng.random((8, 6)) < 0.7):
        for reduction in ("mean", "sum"):
            spec = (P("a"), P("a"), P("a"))
            f = jax.shard_map(
                lambda a, b, c, r=reduction: face.mse_loss(a, b, r, weight=c, axis_name="a"),
                mesh=mesh,
                in_specs=spec,
                out_specs=P(),
            )

            def whole(a, b, c, r=reduction):
                return face.mse_loss(a, b, r, weight=c)

            ours, one = (jax.jit(jax.value_and_grad(g, (0, 1)))(x, y, w) for g in (f, whole))
            for a, b in zip(*map(jax.tree.leaves, (ours, one)), strict=True):
                assert same_bits(a, b), (dtype, reduction)
            if dtype != np.float64:
                continue
            every = (0, 1) if w.dtype == bool else (0, 1, 2)
            for derivative in (jax.grad, jax.jacfwd, jax.hessian):
                ours, one = (jax.jit(derivative(g, every))(x, y, w) for g in (f, whole))
                for a, b in zip(*map(jax.tree.leaves, (ours, one)), strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)

print("devices", jax.device_count(), "cases", cases)
