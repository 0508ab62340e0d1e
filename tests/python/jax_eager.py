"""Run by test_jax.py with two devices: what works inside jit has the same bits outside of it."""

import functools

import jax
import jax.numpy as jnp
import mseloss.jax as face
import numpy as np
from conftest import same_bits
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
x, y = (np.random.default_rng(i).standard_normal((8, 3)).astype(np.float32) for i in range(2))
x, y = (jax.device_put(a, jax.NamedSharding(mesh, P("d"))) for a in (x, y))
row = jnp.ones((1, 3), jnp.float32)


checks = 0


def check(function, *operands):
    global checks
    checks += 1
    compiled = jax.tree.leaves(jax.jit(function)(*operands))
    for eager, expected in zip(jax.tree.leaves(function(*operands)), compiled, strict=True):
        assert same_bits(eager, expected), function


for vma in (True, False):
    shard = functools.partial(jax.shard_map, mesh=mesh, check_vma=vma)
    both = functools.partial(shard, in_specs=(P("d"), P("d")))
    for reduction in ("mean", "none") if vma else ("mean",):
        local = functools.partial(face.mse_loss, reduction=reduction)
        whole = functools.partial(face.mse_loss, reduction=reduction, axis_name="d")

        def each(a, b, f=local):
            value = f(a, b)
            return value if value.ndim else value[None]

        outside = both(each, out_specs=P("d"))
        check(outside, x, y)
        check(jax.grad(lambda a, b, f=outside: f(a, b).sum(), (0, 1)), x, y)
        inside = both(jax.grad(lambda a, b, f=local: f(a, b).sum(), (0, 1)), out_specs=P("d"))
        check(inside, x, y)
        if reduction == "none":
            check(both(jax.vmap(local), out_specs=P("d")), x, y)
        else:
            total = both(whole, out_specs=P())
            check(total, x, y)
            check(jax.value_and_grad(total, (0, 1)), x, y)
            part = shard(whole, in_specs=(P("d"), P()), out_specs=P())
            if vma:  # the gradient of a replicated operand
                check(jax.grad(part, (0, 1)), x, row)
            assert same_bits(total(x, y), face.mse_loss(np.asarray(x), np.asarray(y), reduction))

with jax.disable_jit():  # jit(shard_map) is an eager shard_map as well
    total = jax.shard_map(
        functools.partial(face.mse_loss, axis_name="d"),
        mesh=mesh,
        in_specs=(P("d"), P("d")),
        out_specs=P(),
    )
    assert same_bits(jax.jit(total)(x, y), face.mse_loss(np.asarray(x), np.asarray(y)))

# Explicit mesh axes: a gradient's type includes the sharding of its operand.
explicit = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Explicit,))
with jax.set_mesh(explicit):
    a, b = (jax.device_put(np.asarray(z), jax.NamedSharding(explicit, P("d"))) for z in (x, y))
    c = jax.device_put(row, jax.NamedSharding(explicit, P()))
    for reduction in ("mean", "none"):

        def tripled(p, q, reduction=reduction):
            return 3 * face.mse_loss(p, q, reduction).sum()

        gradient = jax.grad(tripled, (0, 1))
        for operands in ((a, b), (a, c)):
            check(gradient, *operands)
            plain = gradient(*map(np.asarray, operands))
            for ours, one, operand in zip(gradient(*operands), plain, operands, strict=True):
                assert jax.typeof(ours).sharding == jax.typeof(operand).sharding
                assert same_bits(ours, one)

print("devices", jax.device_count(), "checks", checks)
