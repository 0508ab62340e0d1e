"""The loss for JAX: differentiable, under jit, vmap and shard_map, by handlers of XLA's foreign functions.

>>> import jax, jax.numpy as jnp, mseloss.jax
>>> x, y = jnp.arange(4.0), jnp.ones(4)
>>> jax.value_and_grad(mseloss.jax.mse_loss)(x, y)
(Array(1.5, dtype=float32), Array([-0.5,  0. ,  0.5,  1. ], dtype=float32))

The handlers are on the processor only; XLA refuses a program for another platform that calls them.
"""

from __future__ import annotations

import ctypes
import functools
import math

import jax
import jax.numpy as jnp

from mseloss import _core

__all__ = ["mse_loss"]

_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}
_DTYPES = ("float32", "float16", "bfloat16", "float64")
_MAX_RANK = 8


def _register():
    library = ctypes.CDLL(_core.__file__)
    for name in ("loss", "loss_and_grad", "grad", "finish_grad", "partial", "finish"):
        handler = jax.ffi.pycapsule(getattr(library, f"mseloss_jax_{name}"))
        jax.ffi.register_ffi_target(f"mseloss_{name}", handler, platform="cpu")
    return library.mseloss_jax_partial_words()


_PARTIAL_WORDS = _register()


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
    if reduction not in _REDUCTIONS:
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


def _call(name, results, *operands, vmap_method, aliases=None, **attributes):
    """The handler mseloss_`name`; `results` are shapes with dtypes. Inside shard_map, what varies over a mesh
    axis in one operand is made to vary in all."""
    varying = frozenset().union(*map(_varying_axes, operands))
    operands = [_vary(operand, varying) for operand in operands]
    described = [_describe(shape, dtype, operands[0]) for shape, dtype in results]
    call = jax.ffi.ffi_call(
        f"mseloss_{name}",
        described if len(described) > 1 else described[0],
        vmap_method=vmap_method,
        input_output_aliases=aliases,
    )
    return call(*operands, **attributes)


def _varying_axes(array):
    kind = jax.typeof(array)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma


def _describe(shape, dtype, like):
    """The type of a result that varies over the mesh axes that `like` does."""
    kind = jax.typeof(like)
    if not _varying_axes(like):
        return jax.ShapeDtypeStruct(shape, dtype)
    if not hasattr(kind, "manual_axis_type"):
        return jax.ShapeDtypeStruct(shape, dtype, vma=kind.vma)
    sharding = kind.sharding.update(spec=jax.sharding.PartitionSpec(*(None,) * len(shape)))
    return jax.ShapeDtypeStruct(
        shape, dtype, sharding=sharding, manual_axis_type=kind.manual_axis_type
    )


def _vary(array, axes):
    missing = tuple(sorted(axes - _varying_axes(array)))
    return jax.lax.pcast(array, missing, to="varying") if missing else array


def _shape(input, target):
    return jnp.broadcast_shapes(input.shape, target.shape)


def _count(input, target, reduction):
    return math.prod(_shape(input, target)) if reduction == "mean" else 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _loss(input, target, reduction):
    shape = _shape(input, target) if reduction == "none" else ()
    method = "expand_dims" if reduction == "none" else "sequential"
    return _call(
        "loss",
        [(shape, input.dtype)],
        input,
        target,
        vmap_method=method,
        reduction=_REDUCTIONS[reduction],
    )


def _loss_forward(input, target, reduction):
    needs = _needs(input, target)
    input, target = input.value, target.value
    if reduction == "none":
        return _loss(input, target, reduction), (input, target, None, needs)
    value, stored = _call(
        "loss_and_grad",
        [((), input.dtype), (_shape(input, target), input.dtype)],
        input,
        target,
        vmap_method="sequential",
        reduction=_REDUCTIONS[reduction],
    )
    return value, (input, target, stored, needs)


def _loss_backward(reduction, saved, cotangent):
    input, target, stored, needs = saved
    count = _count(input, target, reduction)
    return _gradients(input, target, stored, needs, cotangent, count)


_loss.defvjp(_loss_forward, _loss_backward, symbolic_zeros=True)


def _needs(*primals):
    """Which operands need a gradient, as a tree without leaves: () for yes, None for no."""
    return tuple(() if primal.perturbed else None for primal in primals)


def _gradients(input, target, stored, needs, cotangent, count):
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
        return _call("grad", result, *operands, vmap_method="expand_dims", count=count)
    return _call(
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
    shared = tuple(sorted(_varying_axes(gradient) - _varying_axes(operand)))
    if shared:
        gradient = jax.lax.psum(gradient, shared)
    return gradient.astype(operand.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _sharded_loss(input, target, reduction, axes):
    value, decided = _finished(
        _gathered(_partial(input, target, exact=False), axes), input.dtype, reduction
    )
    words = jax.lax.cond(
        jnp.all(decided != 0),
        _no_words,
        lambda x, y: _partial(x, y, exact=True),
        input,
        target,
    )
    exact, _ = _finished(_gathered(words, axes), input.dtype, reduction)
    return jnp.where(decided != 0, value, exact)


def _no_words(input, target):
    words = jnp.zeros(_PARTIAL_WORDS, jnp.uint32)
    return _vary(words, _varying_axes(input) | _varying_axes(target))


def _partial(input, target, exact):
    return _call(
        "partial",
        [((_PARTIAL_WORDS,), jnp.uint32)],
        input,
        target,
        vmap_method="sequential",
        exact=exact,
    )


def _gathered(words, axes):
    """Every device's words, as a sum of integers in which each row has one term: exact in any order."""
    devices = jax.lax.axis_size(axes)
    rows = jnp.zeros((devices, _PARTIAL_WORDS), jnp.uint32)
    return jax.lax.psum(rows.at[jax.lax.axis_index(axes)].set(words), axes)


def _finished(words, dtype, reduction):
    return _call(
        "finish",
        [((), dtype), ((), jnp.uint8)],
        words,
        vmap_method="sequential",
        reduction=_REDUCTIONS[reduction],
    )


def _sharded_forward(input, target, reduction, axes):
    needs = _needs(input, target)
    input, target = input.value, target.value
    return _sharded_loss(input, target, reduction, axes), (input, target, needs)


def _sharded_backward(reduction, axes, saved, cotangent):
    input, target, needs = saved
    count = _count(input, target, reduction) * jax.lax.axis_size(axes)
    return _gradients(input, target, None, needs, cotangent, count)


_sharded_loss.defvjp(_sharded_forward, _sharded_backward, symbolic_zeros=True)
