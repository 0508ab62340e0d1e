"""The loss for JAX: differentiable, under jit, vmap and shard_map, by handlers of XLA's foreign functions.

>>> import jax, jax.numpy as jnp, mseloss.jax
>>> x, y = jnp.arange(4.0), jnp.ones(4)
>>> jax.value_and_grad(mseloss.jax.mse_loss)(x, y)
(Array(1.5, dtype=float32), Array([-0.5,  0. ,  0.5,  1. ], dtype=float32))

The handlers are on the processor only; XLA refuses a program for another platform that calls them.
"""

from __future__ import annotations

import jax.numpy as jnp

from mseloss.jax.ffi import REDUCTIONS
from mseloss.jax.loss import loss as _loss
from mseloss.jax.sharded import sharded_loss as _sharded_loss

__all__ = ["mse_loss"]

_DTYPES = ("float32", "float16", "bfloat16", "float64")
_MAX_RANK = 8


def mse_loss(input, target, reduction="mean", *, axis_name=None):
    """The mean (or the sum, or each) of the squared differences, differentiable in both arrays.

    Args:
        input, target: arrays that broadcast together, up to 8 dimensions; float32, float16, bfloat16, or
            float64 with jax_enable_x64. Two dtypes promote by JAX's rule, integers to a floating dtype.
        reduction: "none", "mean" or "sum".
        axis_name: inside `jax.shard_map`, the mesh axis, or a tuple of axes, over which the arrays are
            split: the loss is that of the whole arrays, with the same bits as on one device, and the
            gradient each device's part of its derivative. Not for "none".

    Returns an array of the promoted dtype: of the broadcast shape for "none", else 0-dimensional. Of
    nothing, the sum is 0 and the mean NaN.

    An operand that all devices share may be given to each: its gradient is summed over them.
    Reverse mode only, once: JAX raises for jvp, and for the gradient of a gradient.

    Raises ValueError for an unknown reduction, shapes that do not broadcast or more than 8 dimensions,
    TypeError for a dtype that is not listed.

    >>> mse_loss(jnp.float32([1, 2, 3]), jnp.float32([1, 1, 1]), "sum")
    Array(5., dtype=float32)
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
    input, target = jnp.asarray(input), jnp.asarray(target)
    dtype = jnp.promote_types(input.dtype, target.dtype)
    if jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_:
        dtype = jnp.result_type(float)
    if dtype.name not in _DTYPES:
        raise TypeError(f"input: expected {', '.join(_DTYPES[:3])} or float64, got {dtype}")
    rank = max(input.ndim, target.ndim)
    if rank > _MAX_RANK:
        raise ValueError(f"input: expected at most {_MAX_RANK} dimensions, got {rank}")
    jnp.broadcast_shapes(input.shape, target.shape)  # raises the ValueError that JAX's users know
    # Equal ranks, so that a batch dimension in front keeps them broadcasting.
    input, target = (
        jnp.asarray(a, dtype).reshape((1,) * (rank - a.ndim) + a.shape) for a in (input, target)
    )
    if axis_name is None:
        return _loss(input, target, reduction)
    if reduction == "none":
        raise ValueError("axis_name: expected reduction 'mean' or 'sum', got 'none'")
    axes = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    return _sharded_loss(input, target, reduction, axes)
