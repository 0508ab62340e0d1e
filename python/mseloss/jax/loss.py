"""The loss of whole arrays with its gradient, as a jax.custom_vjp."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from mseloss.jax.ffi import REDUCTIONS, call, varying_axes


def _shape(input, target):
    return jnp.broadcast_shapes(input.shape, target.shape)


def mean_count(input, target, reduction):
    return math.prod(_shape(input, target)) if reduction == "mean" else 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def loss(input, target, reduction):
    shape = _shape(input, target) if reduction == "none" else ()
    method = "expand_dims" if reduction == "none" else "sequential"
    return call(
        "loss",
        [(shape, input.dtype)],
        input,
        target,
        vmap_method=method,
        reduction=REDUCTIONS[reduction],
    )


def _loss_forward(input, target, reduction):
    needs = needs_gradients(input, target)
    input, target = input.value, target.value
    if reduction == "none":
        return loss(input, target, reduction), (input, target, None, needs)
    value, stored = call(
        "loss_and_grad",
        [((), input.dtype), (_shape(input, target), input.dtype)],
        input,
        target,
        vmap_method="sequential",
        reduction=REDUCTIONS[reduction],
    )
    return value, (input, target, stored, needs)


def _loss_backward(reduction, saved, cotangent):
    input, target, stored, needs = saved
    count = mean_count(input, target, reduction)
    return gradients(input, target, stored, needs, cotangent, count)


loss.defvjp(_loss_forward, _loss_backward, symbolic_zeros=True)


def needs_gradients(*primals):
    """Which operands need a gradient, as a tree without leaves: () for yes, None for no."""
    return tuple(() if primal.perturbed else None for primal in primals)


def gradients(input, target, stored, needs, cotangent, count):
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros_like(input), jnp.zeros_like(target)
    gradient = _gradient(input, target, stored, cotangent, count)
    return (
        None if needs[0] is None else _shared_out(gradient, input),
        None if needs[1] is None else _shared_out(-gradient, target),
    )


def _gradient(input, target, stored, cotangent, count):
    if stored is not None and not isinstance(cotangent, jax.core.Tracer) and cotangent == 1:
        return stored  # outside jit, where finish_grad would have to copy it
    cotangent = cotangent.reshape((1,) * input.ndim) if cotangent.ndim == 0 else cotangent
    if input.shape != target.shape and input.dtype.itemsize == 2:
        # The sum over expanded dimensions is rounded once, to the operand's dtype.
        input, target, cotangent = (a.astype(jnp.float32) for a in (input, target, cotangent))
        stored = None
    result = [(_shape(input, target), input.dtype)]
    operands = (cotangent, input, target)
    if stored is None:
        return call("grad", result, *operands, vmap_method="expand_dims", count=count)
    return call(
        "finish_grad",
        result,
        stored,
        *operands,
        vmap_method="broadcast_all",
        aliases={0: 0},
        count=count,
    )


def _shared_out(gradient, operand):
    """The sum of `gradient` over the dimensions that `operand` was expanded in, and over the mesh axes that
    only the other operand varies over."""
    axes = tuple(i for i, n in enumerate(operand.shape) if n != gradient.shape[i])
    if axes:
        gradient = jnp.sum(gradient, axes, keepdims=True)
    shared = tuple(sorted(varying_axes(gradient) - varying_axes(operand)))
    if shared:
        gradient = jax.lax.psum(gradient, shared)
    return gradient.astype(operand.dtype)
