"""Derivatives of the loss in jax.numpy: for forward mode, for the weight, and for higher orders.

float16 and bfloat16 are widened to float32 first. The last `spec.rank` dimensions of an array are the
caller's; jax.vmap may put dimensions in front, each of which holds separate losses.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mseloss.jax.ffi import manual_axes, vary


class Spec(NamedTuple):
    """What is known about a loss before its arrays: hashable, so that JAX can treat it as static."""

    reduction: str
    rank: int  # of the operands, all of which have it
    # The dimensions that are summed, as a tuple; None for all of them, or for "none".
    axis: Any = None
    weak: bool = False  # whether JAX considers the result's dtype weak
    mesh_axes: tuple = ()  # the mesh axes over which the arrays are sharded inside shard_map
    parts: int = 1  # the number of devices along them, also where the axes are no longer bound

    @property
    def kept(self):
        """The dimensions that are not summed, as bits."""
        if self.axis is None:
            return 0
        return sum(1 << i for i in range(self.rank) if i not in self.axis)

    def loss_shape(self, shape):
        """The shape of the loss of arrays of `shape`; summed dimensions of `axis` stay with extent 1."""
        if self.reduction == "none":
            return shape
        batch, own = shape[: len(shape) - self.rank], shape[len(shape) - self.rank :]
        if self.axis is None:
            return batch
        return batch + tuple(1 if i in self.axis else n for i, n in enumerate(own))


def wide(array):
    """`array`, with float32 for the half types and for bool."""
    return array.astype(jnp.float32) if array.dtype.itemsize < 4 else array


def shape_of(*arrays):
    """The broadcast shape of arrays, of which some may be None."""
    return jnp.broadcast_shapes(*(a.shape for a in arrays if a is not None))


def expand(loss, rank):
    """An array of the loss's shape, so that it broadcasts with arrays of `rank` dimensions."""
    return loss.reshape(loss.shape + (1,) * (rank - loss.ndim))


def add_slices(values, spec):
    """The sums over the elements of each slice."""
    batch = values.ndim - spec.rank
    axes = range(spec.rank) if spec.axis is None else spec.axis
    return jnp.sum(values, tuple(batch + i for i in axes), keepdims=spec.axis is not None)


def add_devices(part, spec):
    """The sum over the devices, each of which counts even where the arrays are replicated."""
    if not spec.mesh_axes:
        return part
    axes = frozenset(spec.mesh_axes).intersection(manual_axes())
    return jax.lax.psum(vary(part, axes), spec.mesh_axes)


def divisor(weight, shape, like, spec):
    """The sum of the weights of each slice, each as often as it is used, in the compute dtype of `like`."""
    dtype = jnp.promote_types(like.dtype, jnp.float32)
    return add_slices(jnp.broadcast_to(weight.astype(dtype), shape), spec)


def count(shape, spec):
    """The number of elements of a slice, on all devices."""
    own = shape[len(shape) - spec.rank :]
    return spec.parts * math.prod(
        n for i, n in enumerate(own) if spec.axis is None or i in spec.axis
    )


def replicated(array):
    """`array` with the sharding of the handlers' results, part of the type on a mesh with explicit axes."""
    sharding = jax.typeof(array).sharding
    if all(axis is None for axis in sharding.spec):
        return array
    spec = jax.sharding.PartitionSpec(*(None,) * array.ndim)
    return jax.sharding.reshard(array, sharding.update(spec=spec))


def is_mask(weight):
    return weight is not None and weight.dtype == jnp.bool_


def _select(weight, values):
    """`values`, or 0 where a mask is false."""
    if not is_mask(weight):
        return values
    return jnp.where(weight, values, jnp.zeros((), values.dtype))


def _difference(x, y, weight):
    return _select(weight, wide(x) - wide(y))


def squares(x, y, weight):
    """The squared differences, times the weight."""
    d = _difference(x, y, weight)
    return d * d if weight is None or is_mask(weight) else d * d * wide(weight)


def mean(x, y, weight, total, spec):
    """The mean with weights whose sum is `total`, not rounded to a half type."""
    sums = add_slices(squares(x, y, weight), spec)
    return add_devices(sums, spec) / total


def tangent(x, y, w, tx, ty, tw, mean, total, spec):
    """The loss's tangent for the tangents of the operands, each of which may be None.

    `mean` is the loss and `total` the divisor of a mean with weights; without `total` it is computed. For
    sharded arrays this is the device's part of the tangent.
    """
    d = _difference(x, y, w)
    weighted = w is not None and not is_mask(w)
    terms = jnp.zeros_like(d)
    if tx is not None or ty is not None:
        zero = jnp.zeros((), d.dtype)
        td = (zero if tx is None else wide(tx)) - (zero if ty is None else wide(ty))
        terms = _select(w, 2 * d * td)
        terms = terms * wide(w) if weighted else terms
    if tw is not None:
        terms = terms + d * d * wide(tw)
    if spec.reduction == "none":
        return replicated(terms.astype(x.dtype))
    value = add_slices(terms, spec)
    if spec.reduction == "mean":
        if w is None:
            value = value / count(terms.shape, spec)
        else:
            if tw is not None:
                value = value - mean * add_slices(jnp.broadcast_to(wide(tw), terms.shape), spec)
            value = value / (divisor(w, shape_of(x, y, w), x, spec) if total is None else total)
    return replicated(value.astype(x.dtype))


def gradient(cotangent, x, y, w, scale, spec):
    """The gradient with respect to the broadcast input. Without `scale` it follows from the reduction."""
    d = _difference(x, y, w)
    if scale is None:
        scale = 2
        if spec.reduction == "mean":
            shape = shape_of(x, y, w)
            scale = 2 / count(shape, spec) if w is None else 2 / divisor(w, shape, x, spec)
    if isinstance(scale, jax.Array):
        scale = expand(scale, d.ndim)
    g = wide(cotangent)
    g = g if spec.reduction == "none" else expand(g, d.ndim)
    factor = g if w is None or is_mask(w) else wide(w) * g
    return replicated(_select(w, (d * scale) * factor).astype(x.dtype))


def weight_gradient(cotangent, x, y, w, mean, total, spec):
    """The gradient with respect to the broadcast weight, not rounded to a half type."""
    d = _difference(x, y, w)
    g = wide(cotangent)
    if spec.reduction == "none":
        return g * (d * d)
    if spec.reduction == "sum":
        return expand(g, d.ndim) * (d * d)
    if total is None:
        total = divisor(w, shape_of(x, y, w), x, spec)
    return (d * d - expand(mean, d.ndim)) * expand(g / total, d.ndim)
