"""The gradient with respect to the broadcast input, differentiable to every order."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from mseloss.jax import formulas
from mseloss.jax.ffi import REDUCTIONS, call, manual_axes, varying_axes


def differentiable(value, rule):
    """The function value(*arrays, spec) whose derivative is rule(spec, arrays, tangents).

    An array may be None, and so is the tangent of an array that needs none. Symbolic zeros show which do.
    JAX's eager shard_map does not support them, so inside shard_map all tangents are computed; under jit XLA
    removes unused ones.
    """

    def function(*arguments):
        *arrays, spec = arguments

        def restore(values):
            values = iter(values)
            return [None if array is None else next(values) for array in arrays]

        inner = jax.custom_jvp(lambda *values: value(*restore(values), spec))

        def jvp(values, tangents):
            tangents = [None if is_zero(tangent) else tangent for tangent in tangents]
            return rule(spec, restore(values), restore(tangents))

        inner.defjvp(jvp, symbolic_zeros=not manual_axes())
        return inner(*given(*arrays))

    return functools.wraps(value)(function)


def is_zero(tangent):
    return isinstance(tangent, SymbolicZero) or tangent.dtype == jax.dtypes.float0


def given(*arrays):
    return [array for array in arrays if array is not None]


def derivative(function, arrays, tangents):
    """The tangent of function(*arrays), where an array without one may be None."""
    active = [i for i, tangent in enumerate(tangents) if tangent is not None]

    def of_active(*values):
        full = list(arrays)
        for i, value in zip(active, values, strict=True):
            full[i] = value
        return function(*full)

    _, tangent = jax.jvp(
        of_active, tuple(arrays[i] for i in active), tuple(tangents[i] for i in active)
    )
    return tangent


def gradient_shape(cotangent, x, y, w, spec):
    shape = formulas.shape_of(x, y, w)
    own = cotangent.shape
    if spec.reduction != "none":
        own += (1,) * (len(shape) - len(own))
    return jnp.broadcast_shapes(shape, own)


def _gradient(stored, cotangent, x, y, w, scale, spec):
    if scale is not None:
        return formulas.gradient(cotangent, x, y, w, scale, spec)
    # The handlers take the mean's element count from the result's shape, in which vmap puts dimensions in
    # front, and which may be symbolic in jax.export.
    attributes = {
        "reduction": REDUCTIONS[spec.reduction],
        "rank": spec.rank,
        "kept": spec.kept,
        "parts": spec.parts,
    }
    shape = gradient_shape(cotangent, x, y, w, spec)
    if stored is not None and stored.shape != shape:
        stored = None
    operands = given(stored, cotangent, x, y, w)
    result = [(shape, x.dtype)]
    if stored is None:
        return call("grad", result, *operands, vmap_method="expand_dims", **attributes)
    return call(
        "finish_grad",
        result,
        *operands,
        vmap_method="broadcast_all",
        aliases={0: 0},
        **attributes,
    )


def _gradient_jvp(spec, arrays, tangents):
    _, *used = arrays  # `stored` is a function of the others
    _, *active = tangents
    tangent = derivative(
        lambda g, x, y, w, scale: formulas.gradient(g, x, y, w, scale, spec), used, active
    )
    return gradient(*arrays, spec), tangent


# gradient(stored, cotangent, x, y, w, scale, spec): the gradient with respect to the broadcast input.
# `stored` is that for a cotangent of 1, or None; `scale` that of a mean with weights of sharded arrays, else
# None.
gradient = differentiable(_gradient, _gradient_jvp)


def reduce_to(gradient, kind):
    """`gradient` in the shape, dtype and sharding of the type `kind`: summed over the dimensions in which the
    operand was broadcast, and over the mesh axes over which only another operand varies."""
    axes = tuple(i for i, n in enumerate(kind.shape) if n != gradient.shape[i])
    if axes:
        gradient = jnp.sum(gradient, axes, keepdims=True)
    replicated = tuple(sorted(varying_axes(gradient) - varying_axes(kind)))
    if replicated:
        gradient = jax.lax.psum(gradient, replicated)
    gradient = gradient.astype(kind.dtype)
    # The sharding is part of the type where a mesh has explicit axes.
    if not kind.sharding.mesh.empty and jax.typeof(gradient).sharding != kind.sharding:
        gradient = jax.sharding.reshard(gradient, kind.sharding)
    return gradient
