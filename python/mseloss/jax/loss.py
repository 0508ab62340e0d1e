"""The loss of unsharded arrays as a jax.custom_vjp, and the gradients that sharded arrays use too."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from mseloss.jax.ffi import REDUCTIONS, call, varying_axes


def _shape(input, target):
    return jnp.broadcast_shapes(input.shape, target.shape)


def mean_count(input, target, reduction):
    """The element count by which the mean divides; 0 for "none" and "sum"."""
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
    """() for each operand that needs a gradient, else None. Neither has leaves, which must be arrays."""
    return tuple(() if primal.perturbed else None for primal in primals)


def gradients(input, target, stored, needs, cotangent, count):
    """The gradients with respect to `input` and `target`, each None unless needed.

    `stored` is the gradient for a cotangent of 1 if the forward pass computed it, else None. `count`: see
    mean_count.
    """
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros_like(input), jnp.zeros_like(target)
    gradient = _gradient(input, target, stored, cotangent, count)
    return (
        None if needs[0] is None else _reduce_to(gradient, input),
        None if needs[1] is None else _reduce_to(-gradient, target),
    )


def _gradient(input, target, stored, cotangent, count):
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


def _reduce_to(gradient, operand):
    """Sums `gradient` over the dimensions in which `operand` was broadcast, and over the mesh axes over
    which only
    the other operand varies; has the operand's shape and dtype."""
    axes = tuple(i for i, n in enumerate(operand.shape) if n != gradient.shape[i])
    if axes:
        gradient = jnp.sum(gradient, axes, keepdims=True)
    replicated = tuple(sorted(varying_axes(gradient) - varying_axes(operand)))
    if replicated:
        gradient = jax.lax.psum(gradient, replicated)
    return gradient.astype(operand.dtype)
