"""Run by test_jax.py with four devices: values and gradients on meshes, compared with those of jax.numpy.

The argument names the group of cases.
"""

import itertools
import sys

import jax
import jax.numpy as jnp
import mseloss.jax as face
import numpy as np
from conftest import normal
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from mseloss.jax.ffi import varying_axes

x, y, w = (normal(i, (4, 4)) for i in range(3))
w = abs(w) + 1
checks = 0


def formula(a, b, reduction="mean", *, weight=None, axis_name=None):
    weight = jnp.ones((), jnp.float32) if weight is None else weight
    terms = weight * (a - b) ** 2
    if reduction == "none":
        return terms
    total, divisor = terms.sum(), jnp.broadcast_to(weight, terms.shape).sum()
    if axis_name is not None:
        total, divisor = (added(part, axis_name) for part in (total, divisor))
    return total if reduction == "sum" else total / divisor


def added(part, axis_name):
    axes = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    manual = jax.sharding.get_abstract_mesh().manual_axes  # not those of jax.vmap
    missing = tuple(axis for axis in axes if axis in manual and axis not in varying_axes(part))
    return jax.lax.psum(jax.lax.pcast(part, missing, to="varying") if missing else part, axes)


def check(make, *operands, eager=True):
    """make(loss) is the function whose results must agree for our loss and for the formula."""
    global checks
    for wrap in (jax.jit, lambda f: f) if eager else (jax.jit,):
        checks += 1
        ours, theirs = (wrap(make(loss))(*operands) for loss in (face.mse_loss, formula))
        for actual, expected in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
            assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-6)


def mesh_of(kind, *extents):
    names = ("d", "e")[: len(extents)]
    return jax.make_mesh(
        extents, names, axis_types=(kind,) * len(extents), devices=jax.devices()[: np.prod(extents)]
    )


def inside_shard_map(vma):
    mesh = mesh_of(AxisType.Auto, 2, 2)
    whole, d, e, copy = P(("d", "e")), P("d"), P("e"), P()
    cases = [("d", (d, d)), ("d", (d, copy)), ("d", (copy, d)), ("d", (copy, copy))]
    cases += [(["d"], (d, d)), ("d", (d, d, d)), ("d", (d, d, copy)), ("d", (copy, copy, copy))]
    cases += [(("d", "e"), specs) for specs in itertools.product((whole, copy), repeat=2)]
    cases += [(["d", "e"], (d, e)), (("d", "e"), (e, e)), (("d", "e"), (d, copy, e))]
    for (axes, specs), reduction in itertools.product(cases, ("mean", "sum")):
        split = any(spec != copy for spec in specs)
        operands = [
            a[:1] if split and spec == copy else a
            for a, spec in zip((x, y, w), specs, strict=False)
        ]

        def make(loss, argnums, axes=axes, specs=specs, reduction=reduction):
            def part(p, q, *weight):
                options = {"weight": weight[0]} if weight else {}
                return loss(p, q, reduction, axis_name=axes, **options)

            sharded = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=copy, check_vma=vma)
            return jax.value_and_grad(sharded, argnums)

        every = tuple(range(len(specs)))
        eager = axes == "d" and specs in ((d, d), (d, copy), (copy, copy))
        check(lambda loss, m=make, n=every: m(loss, n), *operands, eager=eager)
        if specs in ((d, copy), (copy, copy)):
            for argnums in (0, 1):
                check(lambda loss, m=make, n=argnums: m(loss, n), *operands, eager=False)


def inside_other_maps():
    for reduction, weighted in itertools.product(("mean", "sum"), (False, True)):

        def part(loss, reduction=reduction, weighted=weighted):
            def value(a, b, c):
                options = {"weight": c} if weighted else {}
                return loss(a, b, reduction, axis_name="d", **options)

            return value

        argnums = (0, 1, 2) if weighted else (0, 1)
        for mapped in (jax.vmap, jax.pmap):

            def inner(loss, part=part, mapped=mapped, argnums=argnums):
                return mapped(jax.value_and_grad(part(loss), argnums), axis_name="d")

            def outer(loss, part=part, mapped=mapped, argnums=argnums):
                function = mapped(part(loss), axis_name="d")
                return jax.grad(lambda *a: function(*a).sum(), argnums)

            for make in (inner, outer):
                check(make, x, y, w, eager=mapped is jax.vmap)


def sharded_and_unsharded():
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = mesh_of(kind, 2)
        a, b = (jax.device_put(v, NamedSharding(mesh, P("d"))) for v in (x, y))
        copy = jax.device_put(y, NamedSharding(mesh, P()))
        for reduction in ("mean", "sum", "none"):

            def make(loss, argnums, reduction=reduction):
                return jax.value_and_grad(lambda p, q: loss(p, q, reduction).sum(), argnums)

            for operands in ((a, y), (y, a), (a, 1.0), (a, y[0]), (a, copy), (a, b)):
                with jax.set_mesh(mesh):
                    check(lambda loss, m=make: m(loss, (0, 1)), *operands, eager=False)
                if kind == AxisType.Auto:
                    for argnums in (0, 1):
                        check(lambda loss, m=make, n=argnums: m(loss, n), *operands)


def explicit_axes():
    mesh = mesh_of(AxisType.Explicit, 2)
    with jax.set_mesh(mesh):
        rows, columns = (jax.device_put(x, NamedSharding(mesh, s)) for s in (P("d"), P(None, "d")))
        row = jax.device_put(y[0], NamedSharding(mesh, P()))
        column = jax.device_put(y[0], NamedSharding(mesh, P("d")))
        for reduction in ("mean", "none"):

            def value(loss, reduction=reduction):
                return lambda p, q: loss(p, q, reduction)

            def total(loss, value=value):
                return lambda p, q: value(loss)(p, q).sum()

            for operands, axes in (
                ((rows, 2 * rows), 0),
                ((columns, 2 * columns), 1),
                ((columns, 2 * columns), 0),
                ((rows, row), (0, None)),
                ((columns, column), (0, None)),
            ):

                def inner(loss, total=total, axes=axes):
                    return jax.vmap(jax.value_and_grad(total(loss), (0, 1)), axes)

                def outer(loss, value=value, axes=axes):
                    function = jax.vmap(value(loss), axes)
                    return jax.grad(lambda p, q: function(p, q).sum(), (0, 1))

                check(inner, *operands)
                check(outer, *operands, eager=False)
            check(lambda loss, f=total: jax.hessian(f(loss), (0, 1)), rows, 2 * rows, eager=False)


groups = {
    "with_vma": lambda: inside_shard_map(True),
    "without_vma": lambda: inside_shard_map(False),
    "other_maps": inside_other_maps,
    "sharded_and_unsharded": sharded_and_unsharded,
    "explicit_axes": explicit_axes,
}
groups[sys.argv[1]]()
print("devices", jax.device_count(), "checks", checks)
