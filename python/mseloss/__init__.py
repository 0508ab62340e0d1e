"""Mean-squared-error loss and gradient: exact, fast and bitwise reproducible.

>>> import numpy as np, mseloss
>>> x, y = np.float32([1, 2, 3, 4]), np.float32([1, 1, 1, 1])
>>> mseloss.loss(x, y)
np.float32(3.5)
>>> mseloss.grad(1.0, x, y)
array([0. , 0.5, 1. , 1.5], dtype=float32)

NumPy (including `ml_dtypes.bfloat16`), PyTorch and JAX arrays, and any other object with DLPack, the buffer
protocol or `__array_interface__`, are read without a copy; NumPy copies lists and objects with `__array__`. A
result is the same kind of object as `input`, or a NumPy array. `mseloss.torch` and
`mseloss.jax` have differentiable losses; `import mseloss` imports neither framework.
"""

from mseloss._core import (
    PartialSum,
    __version__,
    check_environment,
    empty,
    explain,
    grad,
    info,
    loss,
    loss_and_grad,
    set_target,
)

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    from mseloss import memory, metrics, reference
    from mseloss.report import Report, compare

__all__ = [
    "PartialSum",
    "Report",
    "__version__",
    "compare",
    "dask",
    "empty",
    "explain",
    "grad",
    "info",
    "jax",
    "loss",
    "loss_and_grad",
    "memory",
    "metrics",
    "mpi",
    "reference",
    "set_target",
    "torch",
    "xarray",
]

for _sentence in check_environment():
    import warnings

    warnings.warn(f"{_sentence}; ignored", RuntimeWarning, stacklevel=2)
del check_environment

# Imported on first use: they need NumPy or a framework, whose imports take much longer than that of mseloss.
_MODULES = ("dask", "jax", "memory", "metrics", "mpi", "reference", "torch", "xarray")
_FROM_REPORT = ("Report", "compare")


if not TYPE_CHECKING:  # to a type checker, __getattr__ would mean that every name exists

    def __getattr__(name):
        import importlib

        if name in _MODULES:
            return importlib.import_module(f"mseloss.{name}")
        if name in _FROM_REPORT:
            value = getattr(importlib.import_module("mseloss.report"), name)
            globals()[name] = value
            return value
        raise AttributeError(f"module 'mseloss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
