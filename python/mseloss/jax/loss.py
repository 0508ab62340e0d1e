"""The loss of unsharded arrays as a jax.custom_vjp, and the gradients that sharded arrays use too."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mseloss.jax.ffi import REDUCTIONS, call, varying_axes


def with_derivative(value, forward, backward, options):
    """The function `value` of two arrays and `options` further arguments, with a derivative.

    Symbolic zeros tell the rules which operands need a gradient. JAX's eager shard_map does not support them,
    so inside shard_map both gradients are computed; under jit XLA removes an unused one.
    """
    static = tuple(range(2, 2 + options))
    outside, inside = (jax.custom_vjp(value, nondiff_argnums=static) for _ in range(2))
    outside.defvjp(forward, backward, symbolic_zeros=True)
    inside.defvjp(lambda x, y, *rest: forward(_Perturbed(x), _Perturbed(y), *rest), backward)

    def function(*arguments):
        manual = getattr(jax.sharding.get_abstract_mesh(), "manual_axes", ())
        return (inside if manual else outside)(*arguments)

    return function


class _Perturbed(NamedTuple):
    """An operand that may need a gradient, in the form that symbolic zeros have."""

    value: Any
    perturbed: bool = True


def _loss(input, target, reduction, weak):
    shape = _shape(input, target) if reduction == "none" else ()
    method = "expand_dims" if reduction == "none" else "sequential"
    return call(
        "loss",
        [(shape, input.dtype)],
        input,
        target,
        vmap_method=method,
        weak=weak,
        reduction=REDUCTIONS[reduction],
    )


def _loss_forward(input, target, reduction, weak):
    needs = needs_gradients(input, target)
    input, target = input.value, target.value
    if reduction == "none":
        return _loss(input, target, reduction, weak), (input, target, None, needs)
    value, stored = call(
        "loss_and_grad",
        [((), input.dtype), (_shape(input, target), input.dtype)],
        input,
        target,
        vmap_method="sequential",
        reduction=REDUCTIONS[reduction],
    )
    return value, (input, target, stored, needs)


def _loss_backward(reduction, weak, saved, cotangent):
    input, target, stored, needs = saved
    return gradients(input, target, stored, needs, cotangent, reduction)


# The loss of arrays of equal dtype and rank: loss(input, target, reduction, weak). `weak` is whether JAX
# considers the result's dtype weak.
loss = with_derivative(_loss, _loss_forward, _loss_backward, options=2)


def _shape(input, target):
    return jnp.broadcast_shapes(input.shape, target.shape)


def needs_gradients(*primals):
    """() for each operand that needs a gradient, else None: pytrees without leaves, because residuals must be
    arrays."""
    return tuple(() if primal.perturbed else None for primal in primals)


def gradients(input, target, stored, needs, cotangent, reduction, parts=1):
    """The gradients with respect to `input` and `target`, each None unless needed.

    `stored` is the gradient for a cotangent of 1 if the forward pass computed it, else None. `parts` is the
    number of devices that hold a part of the arrays.
    """
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros_like(input), jnp.zeros_like(target)
    # The handlers take the mean's element count from the result's shape, in which vmap puts dimensions in
    # front, and which may be symbolic in jax.export.
    rank = input.ndim if reduction == "mean" else -1
    gradient = _gradient(input, target, stored, cotangent, {"parts": parts, "rank": rank})
    return (
        None if needs[0] is None else _reduce_to(gradient, input),
        None if needs[1] is None else _reduce_to(-gradient, target),
    )


def _gradient(input, target, stored, cotangent, mean):
    if stored is not None and not isinstance(cotangent, jax.core.Tracer) and cotangent == 1:
        return stored  # outside jit; finish_grad would copy it
    cotangent = cotangent.reshape((1,) * input.ndim) if cotangent.ndim == 0 else cotangent
    if input.shape != target.shape and input.dtype.itemsize == 2:
        # Sum over the broadcast dimensions in float32, and round once to the operand's dtype.
        input, target, cotangent = (a.astype(jnp.float32) for a in (input, target, cotangent))
        stored = None
    result = [(_shape(input, target), input.dtype)]
    operands = (cotangent, input, target)
    if stored is None:
        return call("grad", result, *operands, vmap_method="expand_dims", **mean)
    return call(
        "finish_grad",
        result,
        stored,
        *operands,
        vmap_method="broadcast_all",
        aliases={0: 0},
        **mean,
    )


def _reduce_to(gradient, operand):
    """`gradient` in the operand's shape, dtype and sharding: summed over the dimensions in which the operand
    was broadcast, and over the mesh axes over which only the other operand varies."""
    axes = tuple(i for i, n in enumerate(operand.shape) if n != gradient.shape[i])
    if axes:
        gradient = jnp.sum(gradient, axes, keepdims=True)
    replicated = tuple(sorted(varying_axes(gradient) - varying_axes(operand)))
    if replicated:
        gradient = jax.lax.psum(gradient, replicated)
    gradient = gradient.astype(operand.dtype)
    sharding = jax.typeof(operand).sharding  # part of the type where a mesh has explicit axes
    if jax.typeof(gradient).sharding != sharding:
        gradient = jax.sharding.reshard(gradient, sharding)
    return gradient
