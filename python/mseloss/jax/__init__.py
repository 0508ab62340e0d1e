"""The loss for JAX: differentiable, and usable under jit, vmap, shard_map and export.

>>> import jax, jax.numpy as jnp, mseloss.jax
>>> x, y = jnp.arange(4.0), jnp.ones(4)
>>> jax.value_and_grad(mseloss.jax.mse_loss)(x, y)
(Array(1.5, dtype=float32), Array([-0.5,  0. ,  0.5,  1. ], dtype=float32))

The handlers for XLA's foreign function interface run on the CPU and on CUDA devices, there on XLA's stream.
XLA rejects programs for other platforms that call them.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from mseloss._axes import check_elementwise, reduced_axes
from mseloss._dtypes import EXPECTED, NAMES
from mseloss.jax.ffi import EXPORT_CHECKS, REDUCTIONS
from mseloss.jax.formulas import Spec
from mseloss.jax.loss import loss
from mseloss.jax.sharded import sharded_loss

__all__ = ["EXPORT_CHECKS", "mse_loss"]


def mse_loss(
    input: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    *,
    weight: ArrayLike | None = None,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    axis_name: Hashable | Sequence[Hashable] | None = None,
) -> jax.Array:
    """The squared differences, their sum or their mean, differentiable with respect to all arrays.

    Args:
        input, target: arrays of float32, float16, bfloat16, or float64 (with jax_enable_x64), whose shapes
            broadcast together. Different dtypes are promoted by JAX's rules, weak types and the settings
            jax_numpy_dtype_promotion and jax_numpy_rank_promotion included, and integers to a floating
            dtype.
        reduction: "none", "mean" or "sum".
        weight: an array that broadcasts with both; it takes part in the promotion. "sum" is
            sum(weight * (input - target)**2), and "mean" that divided by sum(weight), in which each weight
            counts as often as it is used. A bool array is a mask: where it is false, elements are left out,
            NaN included, and gradients are 0.
        axis: for "mean" and "sum" the dimensions of the broadcast shape to reduce, an int or a tuple of ints;
            None for all.
        keepdims: whether reduced dimensions remain with extent 1.
        axis_name: inside `jax.shard_map`, the mesh axis, or a tuple of axes, over which the arrays are
            sharded. The loss is that of the whole arrays, with the same bits as on one device; the gradient
            is the device's shard of its derivative. An operand may be replicated: its gradient is summed
            over the devices. Not available for "none", nor together with `axis` or `keepdims`.

    Returns an array of the promoted dtype: of the broadcast shape for "none", 0-dimensional for None as
    `axis`. For empty slices the sum is 0 and the mean is NaN.

    Forward and reverse mode compose to any order. The loss and its gradient with respect to input and target
    take one sweep and have the bits of `mseloss.loss_and_grad`; other derivatives are computed by jax.numpy.

    Raises ValueError for an unknown reduction, an invalid axis or shapes that do not broadcast, TypeError for
    other dtypes.

    >>> mse_loss(jnp.float32([1, 2, 3]), jnp.float32([1, 1, 1]), "sum")
    Array(5., dtype=float32)
    """
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected 'none', 'mean' or 'sum', got {reduction!r}")
    arrays = {"input": jnp.asarray(input), "target": jnp.asarray(target)}
    if weight is not None:
        arrays["weight"] = jnp.asarray(weight)
    dtype, weak = _promoted(arrays)
    shape = _check_shapes(list(arrays.values()))
    # Equal ranks, so that the operands still broadcast behind a batch dimension.
    rank = len(shape)
    x, y, w = (
        _prepared(name, arrays.get(name), dtype, rank, weak and rank > 0)
        for name in ("input", "target", "weight")
    )
    elementwise = reduction == "none"
    axes = _reduced(axis, keepdims, rank, elementwise, axis_name)
    spec = Spec(reduction, rank, axes, weak and elementwise)
    if axis_name is None:
        value = loss(x, y, w, spec)
        return value if axes is None or keepdims else jnp.squeeze(value, axes)
    if elementwise:
        raise ValueError("axis_name: expected reduction 'mean' or 'sum', got 'none'")
    mesh_axes = tuple(axis_name) if isinstance(axis_name, (tuple, list)) else (axis_name,)
    spec = spec._replace(mesh_axes=mesh_axes, parts=jax.lax.axis_size(mesh_axes))
    return sharded_loss(x, y, w, spec)


def _promoted(arrays):
    """The dtype of the loss, and whether JAX considers it weak."""
    for name, array in arrays.items():
        if array.dtype.name not in NAMES and not _is_integer(array.dtype):
            expected = EXPECTED if name != "weight" else f"{EXPECTED}, or bool for a mask"
            raise TypeError(f"{name}: expected {expected}, got {array.dtype}")
    values = [a for name, a in arrays.items() if name != "weight" or a.dtype != jnp.bool_]
    dtype, weak = jax.dtypes.result_type(*values, return_weak_type_flag=True)
    if _is_integer(dtype):
        dtype = jax.eval_shape(jnp.mean, jax.ShapeDtypeStruct((), dtype)).dtype
    return dtype, weak


def _is_integer(dtype):
    return jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_


def _prepared(name, array, dtype, rank, keeps_weak):
    """`array` with `rank` dimensions. A weight keeps its dtype if that is a floating one, or bool.

    Converting a weak array makes its gradient weak. JAX does not convert it where the result is weak as well.
    """
    if array is None:
        return None
    unchanged = keeps_weak and array.dtype == dtype
    converted = name != "weight" or array.weak_type or array.dtype.name not in (*NAMES, "bool")
    if converted and not unchanged:
        array = jnp.asarray(array, dtype)
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _reduced(axis, keepdims, rank, elementwise, axis_name):
    """`axis` as a tuple of dimensions from 0 on, or None for all that do not remain."""
    if elementwise:
        check_elementwise(axis, keepdims)
    if axis_name is not None and (axis is not None or keepdims):
        raise ValueError("axis_name: expected axis None and keepdims False, got others")
    if axis is None:
        return tuple(range(rank)) if keepdims else None
    return reduced_axes(axis, rank)


def _check_shapes(arrays):
    """The broadcast shape. Raises and warns as an operation of jax.numpy does."""
    shapes = [array.shape for array in arrays]
    if len(set(map(len, shapes))) > 1 and jax.config.jax_numpy_rank_promotion != "allow":
        jax.eval_shape(
            lambda x, y, *w: functools.reduce(jnp.multiply, w, jnp.subtract(x, y)),
            *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes),
        )
    return jnp.broadcast_shapes(*shapes)
