"""The loss for JAX: differentiable, and usable under jit, vmap, shard_map and export.

>>> import jax, jax.numpy as jnp, mseloss.jax
>>> x, y = jnp.arange(4.0), jnp.ones(4)
>>> jax.value_and_grad(mseloss.jax.mse_loss)(x, y)
(Array(1.5, dtype=float32), Array([-0.5,  0. ,  0.5,  1. ], dtype=float32))

The handlers for XLA's foreign function interface run on the CPU only. XLA rejects programs for other
platforms that call them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mseloss._dtypes import EXPECTED, NAMES
from mseloss.jax.ffi import EXPORT_CHECKS, REDUCTIONS
from mseloss.jax.loss import loss as _loss
from mseloss.jax.sharded import sharded_loss as _sharded_loss

__all__ = ["EXPORT_CHECKS", "mse_loss"]


def mse_loss(input, target, reduction="mean", *, axis_name=None):
    """The squared differences, their sum or their mean, differentiable with respect to both arrays.

    Args:
        input, target: arrays of float32, float16, bfloat16, or float64 (with jax_enable_x64), whose shapes
            broadcast together. Different dtypes are promoted by JAX's rules, weak types and the settings
            jax_numpy_dtype_promotion and jax_numpy_rank_promotion included, and integers to a floating
            dtype.
        reduction: "none", "mean" or "sum".
        axis_name: inside `jax.shard_map`, the mesh axis, or a tuple of axes, over which the arrays are
            sharded. The loss is that of the whole arrays, with the same bits as on one device; the gradient
            is the device's shard of its derivative. An operand may be replicated: its gradient is summed
            over the devices. Not available for "none".

    Returns an array of the promoted dtype: of the broadcast shape for "none", else 0-dimensional. For empty
    input the sum is 0 and the mean is NaN.

    Only first-order reverse-mode differentiation is supported: JAX raises for jvp and for second derivatives.

    Raises ValueError for an unknown reduction or shapes that do not broadcast, TypeError for other dtypes.

    >>> mse_loss(jnp.float32([1, 2, 3]), jnp.float32([1, 1, 1]), "sum")
    Array(5., dtype=float32)
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
    input, target = jnp.asarray(input), jnp.asarray(target)
    dtype, weak = _promoted(input, target)
    _check_shapes(input, target)
    # Equal ranks, so that the operands still broadcast behind a batch dimension.
    rank = max(input.ndim, target.ndim)
    input, target = (
        jnp.asarray(a, dtype).reshape((1,) * (rank - a.ndim) + a.shape) for a in (input, target)
    )
    if axis_name is None:
        return _loss(input, target, reduction, weak and reduction == "none")
    if reduction == "none":
        raise ValueError("axis_name: expected reduction 'mean' or 'sum', got 'none'")
    axes = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    return _sharded_loss(input, target, reduction, axes)


def _promoted(input, target):
    """The dtype of the loss, and whether JAX considers it weak."""
    for name, array in (("input", input), ("target", target)):
        if array.dtype.name not in NAMES and not _is_integer(array.dtype):
            raise TypeError(f"{name}: expected {EXPECTED}, got {array.dtype}")
    dtype, weak = jax.dtypes.result_type(input, target, return_weak_type_flag=True)
    if _is_integer(dtype):
        dtype = jax.eval_shape(jnp.mean, jax.ShapeDtypeStruct((), dtype)).dtype
    return dtype, weak


def _is_integer(dtype):
    return jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_


def _check_shapes(input, target):
    """Raises and warns as an operation of jax.numpy does."""
    if input.ndim != target.ndim and jax.config.jax_numpy_rank_promotion != "allow":
        shapes = (jax.ShapeDtypeStruct(array.shape, jnp.float32) for array in (input, target))
        jax.eval_shape(jnp.subtract, *shapes)
    jnp.broadcast_shapes(input.shape, target.shape)
