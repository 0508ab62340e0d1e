"""Calls of mseloss._core's handlers through XLA's foreign function interface (FFI)."""

from __future__ import annotations

import ctypes

import jax
from jax import export

from mseloss import _core

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}  # mseloss::Reduction
HANDLERS = (
    "loss",
    "loss_and_grad",
    "grad",
    "finish_grad",
    "partial",
    "finish",
    "finish_scale",
)

# For the argument `disabled_checks` of jax.export.export, which rejects custom calls that JAX does not know.
EXPORT_CHECKS = tuple(
    export.DisabledSafetyCheck.custom_call(f"mseloss_{name}") for name in HANDLERS
)


# The prefix of a platform's handlers.
PLATFORMS = {"cpu": "mseloss_jax_", "CUDA": "mseloss_jax_cuda_"}


def _register():
    library = ctypes.CDLL(_core.__file__)
    for platform, prefix in PLATFORMS.items():
        for name in HANDLERS:
            handler = jax.ffi.pycapsule(getattr(library, prefix + name))
            jax.ffi.register_ffi_target(f"mseloss_{name}", handler, platform=platform)


_register()


def call(name, results, *operands, vmap_method, weak=False, aliases=None, **attributes):
    """Calls the handler mseloss_`name`; `results` lists (shape, dtype) pairs, weakly typed if `weak`.

    Inside shard_map, a mesh axis over which one operand varies is added to all operands.
    """
    varying = frozenset().union(*map(varying_axes, operands))
    operands = [vary(operand, varying) for operand in operands]
    described = [_describe(shape, dtype, weak, operands[0]) for shape, dtype in results]
    handler = jax.ffi.ffi_call(
        f"mseloss_{name}",
        described if len(described) > 1 else described[0],
        vmap_method=vmap_method,
        input_output_aliases=aliases,
    )
    return handler(*operands, **attributes)


def varying_axes(array):
    """The mesh axes over which an array, or an array of this type, varies inside shard_map."""
    kind = array if isinstance(array, jax.core.ShapedArray) else jax.typeof(array)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma


def manual_axes():
    """The mesh axes of the enclosing shard_map; not those of jax.vmap."""
    return getattr(jax.sharding.get_abstract_mesh(), "manual_axes", ())


def _describe(shape, dtype, weak, like):
    """The type of a result that varies over the same mesh axes as `like`."""
    kind = jax.typeof(like)
    varying = {}
    if varying_axes(like):
        if hasattr(kind, "manual_axis_type"):
            spec = jax.sharding.PartitionSpec(*(None,) * len(shape))
            varying["sharding"] = kind.sharding.update(spec=spec)
            varying["manual_axis_type"] = kind.manual_axis_type
        else:
            varying["vma"] = kind.vma
    return jax.ShapeDtypeStruct(shape, dtype, weak_type=weak, **varying)


def vary(array, axes):
    """`array`, marked as varying over the mesh axes `axes` as well."""
    missing = tuple(sorted(axes - varying_axes(array)))
    return jax.lax.pcast(array, missing, to="varying") if missing else array
