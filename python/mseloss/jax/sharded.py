"""The loss of sharded arrays inside jax.shard_map, with the same bits as the loss of the whole arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mseloss import _core
from mseloss.jax import formulas
from mseloss.jax.ffi import REDUCTIONS, call
from mseloss.jax.gradient import derivative, differentiable, given
from mseloss.jax.tangent import tangent_of


def _until_decided(operands, spec, finish):
    """finish's value from fast sums or, where these leave its rounding undecided, from exact ones.

    finish(the sum of all devices' digits) returns a value and whether its rounding is decided. All devices
    hold the same sum, so they take the same branch.
    """
    value, decided = finish(_total_digits(*operands, spec=spec, exact=False))

    def exact(*operands):
        return finish(_total_digits(*operands, spec=spec, exact=True))[0]

    return jax.lax.cond(decided != 0, lambda *_: value, exact, *operands)


def _total_digits(*operands, spec, exact):
    count = len(_core.PartialSum().digits(operands[0].dtype))
    digits = call(
        "partial", [((count,), jnp.int32)], *operands, vmap_method="sequential", exact=exact
    )
    return formulas.add_devices(digits, spec)


def _finish(name, dtype, **attributes):
    def finish(digits):
        results = [((), dtype), ((), jnp.uint8)]
        return call(name, results, digits, vmap_method="sequential", **attributes)

    return finish


def _sharded_loss(x, y, w, spec):
    finish = _finish("finish", x.dtype, reduction=REDUCTIONS[spec.reduction])
    return _until_decided(given(x, y, w), spec, finish)


def _sharded_loss_jvp(spec, arrays, tangents):
    value = sharded_loss(*arrays, spec)
    x, y, w = arrays
    scale = total = None
    if w is not None and spec.reduction == "mean":
        full = jnp.broadcast_to(w, formulas.shape_of(x, y, w))
        like = jnp.zeros((), jnp.promote_types(x.dtype, jnp.float32))
        scale, total = _scale(full, like, spec), _total(full, like, spec)
    part = tangent_of(spec, value, None, arrays, tangents, scale, total)
    return value, formulas.add_devices(part, spec)


def _total(w, like, spec):
    return formulas.add_devices(formulas.divisor(w, w.shape, like, spec), spec)


def _mean_scale(w, like, spec):
    """The scale of a mean, 2 / sum(w), rounded once to the dtype of `like`."""
    one = jnp.ones((1,) * w.ndim, like.dtype)
    operands = (one, jnp.zeros_like(one), w)
    return _until_decided(operands, spec, _finish("finish_scale", like.dtype))


def _mean_scale_jvp(spec, arrays, tangents):
    like = arrays[1]
    tangent = derivative(lambda w, _: 2 / _total(w, like, spec), arrays, [tangents[0], None])
    return _scale(*arrays, spec), tangent


_scale = differentiable(_mean_scale, _mean_scale_jvp)
# sharded_loss(x, y, w, spec): the loss of arrays that are sharded over the mesh axes spec.mesh_axes. `w` may
# be None.
sharded_loss = differentiable(_sharded_loss, _sharded_loss_jvp)
