"""The loss of arrays of equal dtype and rank, differentiable to every order.

The handlers compute the loss and the first derivative; jax.numpy computes all others.
"""

from __future__ import annotations

import jax.numpy as jnp

from mseloss.jax import formulas
from mseloss.jax.ffi import REDUCTIONS, call
from mseloss.jax.gradient import derivative, differentiable, given
from mseloss.jax.tangent import tangent_of


def _loss(x, y, w, spec):
    shape = spec.loss_shape(formulas.shape_of(x, y, w))
    return call(
        "loss",
        [(shape, x.dtype)],
        *given(x, y, w),
        vmap_method="expand_dims",
        weak=spec.weak,
        reduction=REDUCTIONS[spec.reduction],
    )


def _loss_jvp(spec, arrays, tangents):
    if spec.reduction == "none" or (tangents[0] is None and tangents[1] is None):
        value, stored = loss(*arrays, spec), None
    else:
        value, stored = loss_and_grad(*arrays, spec)
    return value, tangent_of(spec, value, stored, arrays, tangents)


def _loss_and_grad(x, y, w, spec):
    shape = formulas.shape_of(x, y, w)
    value, stored = call(
        "loss_and_grad",
        [(spec.loss_shape(shape), x.dtype), (shape, x.dtype)],
        *given(x, y, w),
        vmap_method="expand_dims",
        reduction=REDUCTIONS[spec.reduction],
        rank=spec.rank,
        kept=spec.kept,
    )
    return value, stored


def _loss_and_grad_jvp(spec, arrays, tangents):
    value, stored = loss_and_grad(*arrays, spec)
    one = jnp.ones_like(value)
    tangent = derivative(
        lambda x, y, w: formulas.gradient(one, x, y, w, None, spec), arrays, tangents
    )
    return (value, stored), (tangent_of(spec, value, stored, arrays, tangents), tangent)


# loss(x, y, w, spec) and loss_and_grad(x, y, w, spec), whose gradient is that for a cotangent of 1. `w` may
# be None.
loss = differentiable(_loss, _loss_jvp)
loss_and_grad = differentiable(_loss_and_grad, _loss_and_grad_jvp)
