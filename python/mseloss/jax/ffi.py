"""Calls of mseloss._core's handlers through XLA's foreign function interface (FFI)."""

from __future__ import annotations

import ctypes

import jax

from mseloss import _core

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}  # mseloss::Reduction


def _register():
    """Registers the handlers; returns the size of a PartialSum in 32-bit words."""
    library = ctypes.CDLL(_core.__file__)
    for name in ("loss", "loss_and_grad", "grad", "finish_grad", "partial", "finish"):
        handler = jax.ffi.pycapsule(getattr(library, f"mseloss_jax_{name}"))
        jax.ffi.register_ffi_target(f"mseloss_{name}", handler, platform="cpu")
    return library.mseloss_jax_partial_words()


PARTIAL_WORDS = _register()


def call(name, results, *operands, vmap_method, aliases=None, **attributes):
    """Calls the handler mseloss_`name`; `results` lists (shape, dtype) pairs.

    Inside shard_map, a mesh axis over which one operand varies is added to all operands.
    """
    varying = frozenset().union(*map(varying_axes, operands))
    operands = [vary(operand, varying) for operand in operands]
    described = [_describe(shape, dtype, operands[0]) for shape, dtype in results]
    handler = jax.ffi.ffi_call(
        f"mseloss_{name}",
        described if len(described) > 1 else described[0],
        vmap_method=vmap_method,
        input_output_aliases=aliases,
    )
    return handler(*operands, **attributes)


def varying_axes(array):
    """The mesh axes over which `array` varies inside shard_map."""
    kind = jax.typeof(array)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma


def _describe(shape, dtype, like):
    """The type of a result that varies over the same mesh axes as `like`."""
    kind = jax.typeof(like)
    if not varying_axes(like):
        return jax.ShapeDtypeStruct(shape, dtype)
    if not hasattr(kind, "manual_axis_type"):
        return jax.ShapeDtypeStruct(shape, dtype, vma=kind.vma)
    sharding = kind.sharding.update(spec=jax.sharding.PartitionSpec(*(None,) * len(shape)))
    return jax.ShapeDtypeStruct(
        shape, dtype, sharding=sharding, manual_axis_type=kind.manual_axis_type
    )


def vary(array, axes):
    """`array`, marked as varying over the mesh axes `axes` as well."""
    missing = tuple(sorted(axes - varying_axes(array)))
    return jax.lax.pcast(array, missing, to="varying") if missing else array
